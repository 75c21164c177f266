"""A freeze that the agent answered with an error, told apart from an agent that does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from freezeframe.contract.hold import LONGEST_HOLD_S
from freezeframe.naming import NamedGuest
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError

#: What the agent says if its hook ended with another status than 0. [qga/commands-posix.c, execute_fsfreeze_hook]
_HOOK_FAILED: Final = "fsfreeze hook"
#: What the agent in Windows says to a thaw if VSS has let the guest go before: English everywhere; Windows' own words, in the
#: guest's language, follow. [qga/vss-win32/requester.cpp, requester_thaw]
_EXPIRED: Final = "couldn't hold writes"

#: Of the time that a freeze is given: from there on it counts as slow.
SLOW_SHARE: Final = 0.9
#: Seconds by which libvirt may tell of a time-out late: a thread that is woken, and a busy host.
LATE_S: Final = 2.0


class FreezeFailedError(AgentError):
    """The agent tried to freeze the guest and could not."""

    code = "freeze-failed"


class FreezeHookError(FreezeFailedError):
    """The freeze hook in the guest ended with an error, so the agent froze nothing."""

    code = "freeze-hook"


class FreezeExpiredError(AgentError):
    """Windows had let the guest go before it was thawed. Until the thaw its agent calls it frozen."""

    code = "freeze-expired"

    def __init__(self, guest: NamedGuest, error: AgentError) -> None:
        choice = guest.option("freeze-pause")
        super().__init__(
            f"Guest {guest} was frozen, and Windows let it run again before it was thawed: {error.message}",
            advice="VSS holds writes for 10 s at most. Leave less time with --hold-timeout, or capture the guest with "
            f"--guest-hold {choice}, which keeps it still until it is let go.",
            libvirt_code=error.libvirt_code,
        )
        self.refusal = error.refusal


class SlowFreezeError(AgentError):
    """The agent began to freeze the guest and had not ended in the time that it was given."""

    code = "slow-freeze"

    def __init__(self, guest: NamedGuest, seconds: float) -> None:
        pause = guest.option("pause")
        # under `degrade` no freeze is given more than this share of the hold (workers/pace.py)
        longer = "Give it longer with --hold-timeout, or capture" if seconds < 0.75 * LONGEST_HOLD_S else "Capture"
        super().__init__(
            f"Guest {guest} had not frozen its filesystems after {seconds:.1f} s.",
            advice=f"{longer} it with --guest-hold {pause}, which needs no freeze. "
            "What takes that long is in the guest: its freeze hook, or much data to write.",
        )
        self.seconds = seconds


class LateFreezeError(AgentError):
    """The freeze had not ended in its time, and libvirt said so long after that: nothing is known of how long it takes."""

    code = "late-freeze"
    advice = (
        "Look at the load of that host and at libvirtd's log, and try again. This says nothing of the guest: its next freeze "
        "is tried as usual."
    )

    def __init__(self, guest: NamedGuest, seconds: float, timeout_s: float) -> None:
        super().__init__(
            f"Freezing guest {guest} was to be given up after {timeout_s:g} s, and was after {seconds:.1f} s: libvirtd or the "
            "host stood still meanwhile, or the agent was busy before."
        )


def out_of_time(guest: NamedGuest, seconds: float, timeout_s: float, otherwise: AgentError) -> AgentError:
    """Return what a freeze without an answer is told as, `seconds` after it was asked for.

    An agent that does not answer at all is given up after 5 s, before its freeze is sent: that is `otherwise`. [libvirt
    src/qemu/qemu_agent.c: qemuAgentGuestSync] libvirt's own clock ends a freeze in time; where it did not, the time is not the
    guest's, which would be refused for days as too slow.
    """
    if seconds < SLOW_SHARE * timeout_s:
        return otherwise
    if is_late(seconds, timeout_s):
        return LateFreezeError(guest, seconds, timeout_s)
    return SlowFreezeError(guest, seconds)


def is_late(seconds: float, timeout_s: float) -> bool:
    """Return True if a freeze lasted longer than libvirt's clock allows: the time is not the guest's."""
    return seconds > timeout_s + LATE_S


def expired(error: AgentError) -> bool:
    """Return True if the agent's answer to a thaw says that the freeze had ended by itself."""
    return _EXPIRED in (error.refusal or "")


def refused(error: AgentError) -> bool:
    """Return True if the agent itself answered with an error, False if it did not answer."""
    return error.refusal is not None


@contextmanager
def answering(domain: Domain) -> Iterator[None]:
    """Turn the AgentError of a freeze into the failure that the agent's own answer tells of."""
    try:
        yield
    except AgentError as error:
        if not refused(error):
            raise
        failure = _failure(NamedGuest(domain.name, domain.uuid), error)
        failure.refusal = error.refusal
        raise failure from error


def _failure(guest: NamedGuest, error: AgentError) -> FreezeFailedError:
    pause = f"capture the guest with --guest-hold {guest.option('pause')}, which needs no freeze."
    if _HOOK_FAILED in (error.refusal or ""):
        return FreezeHookError(
            f"The freeze hook in guest {guest} failed: {error.message}",
            advice=f"Run the hook in the guest by hand with the word freeze and mend what it reports, or {pause}",
            libvirt_code=error.libvirt_code,
        )
    return FreezeFailedError(
        f"The agent of guest {guest} could not freeze its filesystems: {error.message}",
        advice=f"Look at the agent's log in the guest, or {pause}",
        libvirt_code=error.libvirt_code,
    )
