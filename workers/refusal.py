"""Reasons for which a guest, a disk or a host cannot take part in a capture. Each is found before any guest is touched."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from freezeframe.contract.hold import LONGEST_HOLD_S
from freezeframe.contract.words import HoldKind
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from freezeframe.naming import NamedGuest
from workers.pace import TOO_SLOW_KEPT_S, TooSlow, longer_s


class RefusedError(FreezeframeError):
    """The guest cannot be captured now."""

    code = "refused"
    exit_code = EXIT_REFUSED


class GuestNotRunningError(RefusedError):
    code = "guest-not-running"
    advice = "Start the guest; stopped guests cannot be captured yet."


class GuestPausedError(RefusedError):
    code = "guest-paused"


class GuestSuspendedError(RefusedError):
    code = "guest-suspended"


class GuestCrashedError(RefusedError):
    code = "guest-crashed"


class GuestEndingError(RefusedError):
    code = "guest-ending"
    advice = "Start the guest again when it is off; stopped guests cannot be captured yet."


class HeldByOthersError(RefusedError):
    """Somebody else has paused or frozen the guest since it was prepared; it is left so."""


class PausedMeanwhileError(HeldByOthersError):
    code = "guest-paused"
    advice = "It was left as it is. Resume it once it is known who paused it, then capture again."


class FrozenMeanwhileError(HeldByOthersError):
    code = "guest-frozen"

    def __init__(self, guest: NamedGuest) -> None:
        super().__init__(
            f"Guest {guest} was prepared while it was thawed, and something else has frozen it since.",
            advice=f"It was left as it is. Thaw it (`virsh domfsthaw {guest.virsh}`) once it is known what froze it, then "
            "capture again.",
        )


class SlowGuestError(RefusedError):
    """The guest's last freeze took longer than this hold lasts: all others would be held until it is given up."""

    code = "slow-freeze"

    def __init__(self, guest: NamedGuest, slow: TooSlow, *, all_or_nothing: bool = True) -> None:
        retried = datetime.fromtimestamp(slow.at + TOO_SLOW_KEPT_S, UTC)
        pause, longer = f"--guest-hold {guest.option('pause')}", longer_s(slow, all_or_nothing=all_or_nothing)
        if longer <= LONGEST_HOLD_S:
            advice = (
                f"Give it at least --hold-timeout {longer}, or capture it with {pause}, which needs no freeze. With a shorter "
                f"time-out it is tried again from {retried:%Y-%m-%d} on."
            )
        else:
            advice = (
                f"Capture it with {pause}, which needs no freeze. No hold lasts longer than {LONGEST_HOLD_S} s, which is too "
                f"short; with a freeze it is tried again from {retried:%Y-%m-%d} on."
            )
        super().__init__(
            f"The last freeze of guest {guest} had not ended after {slow.ms / 1000:.1f} s, at {_when(slow.at)}.",
            advice=advice,
        )


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


class GuestBusyError(RefusedError):
    code = "guest-busy"

    def __init__(self, guest: NamedGuest, message: str, *, disk: str | None = None) -> None:
        shows = (
            f"virsh domjobinfo {guest.virsh}" if disk is None else f"virsh blockjob {guest.virsh} {shlex.quote(disk)}"
        )
        super().__init__(message, advice=f"Wait until it is done (`{shows}` shows it), then capture again.")


class GuestMigratingError(RefusedError):
    code = "guest-migrating"

    def __init__(self, guest: NamedGuest, job: str) -> None:
        super().__init__(
            f"Guest {guest} is migrating ({job}).",
            advice=f"Wait until it has arrived (`virsh domjobinfo {guest.virsh}` on its old host shows how far it is), then "
            "capture again.",
        )


class LostBackupError(RefusedError):
    """libvirtd was killed while it began a backup, and has a job since of which it knows nothing."""

    code = "lost-backup"
    advice = (
        "Shut the guest down, restart libvirtd (or virtqemud) while it is off, then start the guest. Only that order helps: "
        "until libvirtd is restarted the guest cannot be started again."
    )


class GuestFrozenError(RefusedError):
    code = "guest-frozen"

    def __init__(self, guest: NamedGuest) -> None:
        super().__init__(
            f"Guest {guest} is frozen already, and not by this capture.",
            advice=f"Something else froze it; thaw it (`virsh domfsthaw {guest.virsh}`) once you know what.",
        )


class NoAgentError(RefusedError):
    code = "no-agent"


def no_agent(guest: NamedGuest, why: str) -> NoAgentError:
    """Return the refusal of a guest whose agent does not answer."""
    choice = guest.option("pause")
    return NoAgentError(
        f"The agent of guest {guest} does not answer: {why}",
        advice=f"Start qemu-guest-agent in the guest, or capture it with --guest-hold {choice}. If it runs, restart it: "
        "libvirt loses sight of an agent that was restarted while a backup ran.",
    )


class StillLetGoError(RefusedError):
    """The thaw guard still lets go of the guest, and could undo a new hold of it."""

    code = "still-let-go"

    def __init__(self, guest: NamedGuest, hold: HoldKind, earlier: str) -> None:
        answers = "its agent answers (restart qemu-guest-agent in the guest)" if hold.freezes else "QEMU answers for it"
        pause = f", or capture it with --guest-hold {guest.option('pause')}" if hold is HoldKind.FREEZE else ""
        super().__init__(
            f"The thaw guard still lets go of guest {guest}, which capture {earlier} held and which has not answered since.",
            advice=f"Capture it again when {answers}{pause}.",
        )


class AgentCommandBlockedError(RefusedError):
    """The agent's configuration in the guest forbids a command that the hold needs."""

    code = "agent-command-blocked"


class MountpointError(RefusedError):
    """A filesystem that shall be frozen is not there."""

    code = "mountpoint"


class DiskNotCapturableError(RefusedError):
    code = "disk-not-capturable"


class DiskEncryptedError(RefusedError):
    code = "disk-encrypted"


class NoDiskError(RefusedError):
    code = "no-disk"
    advice = "There is nothing to capture; leave the guest out."


class RepositoryMismatchError(RefusedError):
    code = "repository-mismatch"
    advice = "Set FREEZEFRAME_REPOSITORY on this host to the repository that the orchestrator uses."


class GuestTroubleError(RefusedError):
    """Something on this host failed while a guest was prepared; no other guest is concerned."""

    code = "guest-trouble"
    advice = "Look at this host's worker log and at the file system of FREEZEFRAME_SCRATCH_DIR, then capture again."


class DisksChangedError(RefusedError):
    """The guest has not the disks any more that were prepared; it was not held."""

    code = "disks-changed"
    advice = "Nothing was held. Capture again, when nobody attaches or detaches disks of the guest."


class GuestRestartedError(RefusedError):
    """The guest runs in another QEMU than the one that was prepared: what was tried there shows nothing of this one."""

    code = "guest-restarted"
    advice = "Nothing was held. Capture the guest again, now that it runs."


class GuestAtWorkError(RefusedError):
    """A step or an undo of the same capture still works on the guest."""

    code = "guest-at-work"
    advice = "Capture again when it has ended: `freezeframe recover` on the host shows that."


class SecondWriterError(FreezeframeError):
    """Another guest wrote to a disk while it was read: it is not as it was at the instant."""

    code = "disk-shared"

    @classmethod
    def of(cls, guest: NamedGuest, target: str, reason: str) -> SecondWriterError:
        """Return the error of one disk; `reason` is that of `fitness.shared_reason`."""
        return cls(
            f"Disk {target} of guest {guest} was not read as it was at the instant: {reason}.",
            advice="Nothing of this guest was kept. Capture it again while no other guest has that storage, or leave the disk "
            f"out with --skip-disk {guest.option(target)}.",
        )
