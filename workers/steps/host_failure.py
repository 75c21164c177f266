"""Trouble that a step may meet anywhere: storage of the host that is full, read-only or failing, no thread left, or Redis's.

It is no defect, and its advice is for an administrator. Storage is told with the host and its directory.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

from freezeframe import redis_fault
from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from workers.bounded import NoThreadError
from workers.host import Host


class HostStorageError(FreezeframeError):
    """A directory of the host takes or gives no data."""

    code = "host-storage"
    exit_code = EXIT_UNREACHABLE


class NoDescriptorError(FreezeframeError):
    """The worker, or the host, has as many files open as it may."""

    code = "no-descriptor"
    exit_code = EXIT_UNREACHABLE
    advice = (
        "Look on that host at the worker's limit of open files (LimitNOFILE= of its systemd unit, `ulimit -n`), at "
        "/proc/sys/fs/file-nr and at who has them open (`lsof`). Then capture again."
    )


def foreseen(host: Host, error: Exception, *directories: Path) -> FreezeframeError | None:
    """Return the error to tell of `error` if it is trouble of the host or of Redis; None if it is none that is known.

    `directories` are those that may be meant where the error names no file; by default those that a step writes to.
    """
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return NoDescriptorError(f"Host {host.host_id} can open no further file: {error.strerror or error}.")
    if isinstance(error, OSError) and error.errno in _ADVICE:
        found = _directories(host, error) or directories or (host.settings.state_dir, host.settings.scratch_dir)
        places = [shlex.quote(str(path)) for path in dict.fromkeys(found)]
        return HostStorageError(
            f"Host {host.host_id} cannot use {' or '.join(places)}: {error.strerror or error}.",
            advice=f"{_ADVICE[error.errno](places)} Then capture again.",
        )
    if isinstance(error, redis_fault.TROUBLE):
        return redis_fault.trouble(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        return NoThreadError.of(error)
    return None


def _directories(host: Host, error: OSError) -> tuple[Path, ...]:
    """Return the configured directory of the file that the error names, or else that file's own; none if it names none."""
    if not isinstance(error.filename, str | Path):
        return ()
    path = Path(error.filename)
    settings = host.settings
    for directory in (settings.state_dir, settings.scratch_dir, settings.run_dir):
        if path.is_relative_to(directory):
            return (directory,)
    return (path.parent,)


def _room(places: list[str]) -> str:
    return f"Make room on that host: `df -h {' '.join(places)}` and `df -i {' '.join(places)}` show what is used up."


def _quota(places: list[str]) -> str:
    return (
        f"Make room on that host or raise the quota of Freezeframe's user (`repquota -a`); `du -sh {' '.join(places)}`."
    )


def _read_only(places: list[str]) -> str:
    return (
        f"Find out why the file system is read-only ({_mounts(places)}; the kernel's log, `dmesg`, tells if its device has "
        "failed), and mount it writable."
    )


def _failing(places: list[str]) -> str:
    return f"Look into that host's kernel log (`dmesg`) and at the storage below ({_mounts(places)})."


def _mounts(places: list[str]) -> str:
    return ", ".join(f"`findmnt -T {place}`" for place in places)


_ADVICE: Final[dict[int | None, Callable[[list[str]], str]]] = {
    errno.ENOSPC: _room,
    errno.EDQUOT: _quota,
    errno.EROFS: _read_only,
    errno.EIO: _failing,
}
