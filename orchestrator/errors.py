"""Why a request cannot become a capture, or why a capture failed, as the orchestrator sees it."""

from __future__ import annotations

from freezeframe.errors import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_UNREACHABLE, FreezeframeError


class CancelledError(FreezeframeError):
    """Somebody has asked for the end of a capture that was under way."""

    code = "cancelled"
    advice = "Nothing of it is kept, and its guests run on. Ask for a capture again when one is wanted."


class UnknownGuestError(FreezeframeError):
    """No host has a guest of this name or UUID."""

    code = "unknown-guest"
    exit_code = EXIT_NOT_FOUND
    advice = "`freezeframe guests` lists those that are known."


class AmbiguousGuestError(FreezeframeError):
    """More than one host has a guest of this name."""

    code = "ambiguous-guest"
    exit_code = EXIT_REFUSED


class SplitGuestError(FreezeframeError):
    """One guest, known by its UUID, runs on two hosts: two guests that nothing tells apart."""

    code = "guest-on-two-hosts"
    exit_code = EXIT_REFUSED

    def __init__(self, message: str, *, advice: str, host_ids: tuple[str, ...]) -> None:
        super().__init__(message, advice=advice)
        self.host_ids = host_ids


class HeldTwiceError(FreezeframeError):
    """A request says in two ways that exclude each other how one guest is to be held."""

    code = "held-twice"
    exit_code = EXIT_REFUSED


class NoGuestsError(FreezeframeError):
    """Nothing to capture."""

    code = "no-guests"
    exit_code = EXIT_NOT_FOUND
    advice = "Start guests, or name the ones to capture; `freezeframe guests` lists them."


class HostContractError(FreezeframeError):
    """A host's version and the orchestrator's do not understand each other."""

    code = "host-version"
    exit_code = EXIT_REFUSED


class HostDownError(FreezeframeError):
    """A host has not been heard of."""

    code = "host-down"
    exit_code = EXIT_UNREACHABLE
    advice = "Look whether the host is up and its control worker runs (`freezeframe hosts`)."


class HostSilentError(FreezeframeError):
    """A host has not answered an order in time."""

    code = "host-silent"
    exit_code = EXIT_UNREACHABLE
    advice = "Look into the log of the host's workers; what the capture left there is undone when they come back."


class UnexplainedError(FreezeframeError):
    """A host has answered without a word of a guest, or without saying why the guest took no part."""

    code = "unexplained"
    advice = (
        "Look into the log of that host's worker, and install the same version there and on the orchestrator's host."
    )


class AnswersLostError(FreezeframeError):
    """Redis has a run, and not what the hosts answered of its guests: nothing may be sealed of what is left."""

    code = "answers-lost"
    advice = (
        "Redis has lost or evicted data while the capture ran: set its `maxmemory-policy` to noeviction, and have nothing else "
        "delete keys there. Then capture again."
    )


class GuestUnreadableError(FreezeframeError):
    """A part of a guest's capture is there, and cannot be read: it is of another version, or damaged."""

    code = "unreadable-answer"


class TransferStalledError(FreezeframeError):
    """A transfer has made no progress."""

    code = "transfer-stalled"
    exit_code = EXIT_UNREACHABLE
    advice = (
        "Look into the log of the host's data worker, and whether the host reaches the repository: a network file system whose "
        "server is away makes every process wait that touches it, until the server is back."
    )


class EndedBeforeError(FreezeframeError):
    """The session of a capture has ended in the repository: nothing can be stored in it any more."""

    code = "ended-before"
    exit_code = EXIT_REFUSED
    advice = "Ask with another id. `freezeframe captures show` with this one tells whether it was sealed. No guest was touched."


class GuestWantedError(FreezeframeError):
    """Another capture has the guest, or gets it before this one: as its host says of a guest that it has claimed."""

    code = "guest-claimed"
    exit_code = EXIT_REFUSED
    advice = "Capture it again when that capture has ended, or with --wait-for-guests. No guest was touched."

    def __init__(self, guest: str, capture_id: str) -> None:
        super().__init__(f"Guest {guest} is in capture {capture_id}, which has not claimed it yet, and comes first.")


class QueuedTooLongError(FreezeframeError):
    """A capture has waited for its place for longer than it may."""

    code = "queued-too-long"
    exit_code = EXIT_REFUSED
    advice = (
        "`freezeframe captures` shows what is at work; `freezeframe captures cancel` ends one of them. More may be at once "
        "with the orchestrator's settings captures_per_host and captures_at_once; with queue_timeout_s a capture waits for "
        "longer. No guest was touched."
    )


class CaptureTooLargeError(FreezeframeError):
    """One manifest has not enough room for all guests."""

    code = "capture-too-large"
    exit_code = EXIT_REFUSED
    advice = "Capture fewer guests at once, in two captures or more. No guest was held."


class NotInCaptureError(FreezeframeError):
    """A guest was planned, and the sealed capture does not have it."""

    code = "not-in-capture"
    advice = (
        "Capture the guest again; `freezeframe captures show` with the capture's id shows the guests that are in it."
    )


class NotProvenError(FreezeframeError):
    """The guests were held, but one instant is not proven."""

    code = "not-proven"
    advice = "Capture again; with --policy degrade it would be kept under a lesser label."
