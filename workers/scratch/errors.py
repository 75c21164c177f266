"""Why there is no room for scratch files, or none any more."""

from __future__ import annotations

from freezeframe.errors import EXIT_REFUSED, FreezeframeError


class ScratchSpaceError(FreezeframeError):
    """A guest's scratch files do not fit beside those of the others."""

    code = "scratch-space"
    exit_code = EXIT_REFUSED


class ScratchRunsOutError(FreezeframeError):
    """The watcher ended the guest's backup, because the guest rewrites more than there is room to keep."""

    code = "scratch-runs-out"
    advice = "Make room for FREEZEFRAME_SCRATCH_DIR on that host, or capture when the guest writes less."


class PassphraseLostError(FreezeframeError):
    """libvirt no longer has the passphrase of a scratch file, and refused the begin of the backup."""

    code = "passphrase-lost"
    advice = "The guest was let go, and nothing of it was kept. Capture it again now that libvirt runs."
