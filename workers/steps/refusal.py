"""Why a guest, a disk or a host cannot take part in a capture. Each is found before any guest is touched."""

from __future__ import annotations

from freezeframe.errors import EXIT_REFUSED, FreezeframeError


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


class GuestBusyError(RefusedError):
    code = "guest-busy"
    advice = "Wait until it is done (`virsh domjobinfo` shows it), then capture again."


class GuestMigratingError(RefusedError):
    code = "guest-migrating"
    advice = "Wait until it has arrived (`virsh domjobinfo` on its old host shows how far it is), then capture again."


class LostBackupError(RefusedError):
    """libvirtd was killed while it began a backup, and has a job since of which it knows nothing."""

    code = "lost-backup"
    advice = (
        "Shut the guest down, restart libvirtd (or virtqemud) while it is off, then start the guest. Only that order helps: "
        "until libvirtd is restarted the guest cannot be started again."
    )


class GuestFrozenError(RefusedError):
    code = "guest-frozen"
    advice = "Something else froze it; thaw it (`virsh domfsthaw`) once you know what."


class NoAgentError(RefusedError):
    code = "no-agent"


class AgentCommandBlockedError(RefusedError):
    """The agent's configuration in the guest forbids a command that the hold needs."""

    code = "agent-command-blocked"


class MountpointError(RefusedError):
    """A filesystem that shall be frozen is not there."""

    code = "mountpoint"


class DiskNotCapturableError(RefusedError):
    code = "disk-not-capturable"


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


class GuestAtWorkError(RefusedError):
    """A step or an undo of the same capture still works on the guest."""

    code = "guest-at-work"
    advice = "Capture again when it has ended: `freezeframe recover` on the host shows that."
