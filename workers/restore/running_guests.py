"""Ask libvirt whether a running guest has as a disk what a restore is about to write over.

Open descriptors (`open_elsewhere.py`) do not show a QEMU of another PID namespace, as of a libvirt in a container, or one that
this user may not look at. libvirt knows its guests wherever their QEMUs run. It is asked once, before anything is written.

    asked for      each disk and device of each active guest, paused ones too: its active layer, data file, backing chain and
                   mirror, in files, devices, volumes of pools and NBD exports (`workers/identity/uses.py`)
    compared by    keys that are equal for the same storage, whichever name leads to it, and what lies on it
    which libvirt  the one of the settings, and that of --connect unless it is another host's

| libvirt                                              | then                                                                 |
|------------------------------------------------------|----------------------------------------------------------------------|
| is not installed (no `host` extra), or has no daemon | there is none: descriptors alone decide                              |
| answers                                              | a guest that has it is named, and nothing is written                 |
| fails, refuses this user, or does not answer in time | refused: a guest that is not seen is not absent; --no-guest-check    |
| names storage that this host does not find           | refused too, unless the descriptors of that guest's QEMU were seen   |

Paths are taken as this host has them. A guest that starts after the question is not kept from the disk.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from freezeframe.contract.message import HostId
from freezeframe.errors import FreezeframeError
from freezeframe.missing import remedy
from freezeframe.naming import virsh_word
from freezeframe.settings import HostSettings, load
from workers.bounded import GuestCalls
from workers.identity.places import Places
from workers.restore.apart import overlap, place_of_file, where_is
from workers.restore.errors import GuestsUnknownError, TargetInUseError
from workers.restore.plan import GuestPart

if TYPE_CHECKING:
    from workers.fitness.sharing import DiskUse

#: Seconds for one libvirt to tell of all its guests, whose storage is asked side by side within 7 s.
PATIENCE_S: Final = 30.0

_CALLS: Final = GuestCalls()

#: libvirt's code of an error that has an errno, and the errnos for a socket at which no process listens. [libvirt virterror.h]
_VIR_ERR_SYSTEM_ERROR: Final = 38
_NO_DAEMON: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED})


@dataclass(frozen=True)
class Libvirt:
    """A libvirt of this host. `run_dir` is where it notes its guests' QEMUs; None if that is not known."""

    uri: str
    run_dir: Path | None = None


class LibvirtSettings(HostSettings):
    """The settings of a host whose own name is not needed.

    A rescue system may have a name that no host of a capture can have, or wait for DNS to tell it.
    """

    host_id: HostId = "unnamed"


def libvirts_here(connect: str | None) -> tuple[Libvirt, ...]:
    """Return the libvirt of the settings, and that of `--connect` if it is another one of this host."""
    settings = load(LibvirtSettings)
    own = Libvirt(settings.libvirt_uri, settings.libvirt_run_dir)
    return (own,) if connect in {None, own.uri} or _is_remote(connect) else (own, Libvirt(connect))


def check_no_guest_has(
    written: Mapping[str, Places], libvirts: Iterable[Libvirt], patience_s: float = PATIENCE_S
) -> None:
    """Raise TargetInUseError if a running guest has a disk in common with `written`, and GuestsUnknownError if it may have.

    `written` has the places that are written over, by their names for people.
    """
    for libvirt in libvirts:
        found = _told(libvirt, ", ".join(written), patience_s)
        for use in found.uses:
            for where, places in written.items():
                if overlap(places, Places(use.shows, use.within)):
                    raise _in_use(where, use, libvirt.uri)
        if found.doubts:
            raise GuestsUnknownError.of_disk(", ".join(written), found.doubts[0])


def written_over(parts: Iterable[GuestPart]) -> dict[str, Places]:
    """Return the places of a restore that are there already, by their names for people."""
    found: dict[str, Places] = {}
    for part in parts:
        found |= {one.where: where_is(one) for one in part.disks if one.place is not None or os.path.lexists(one.path)}
        if os.path.lexists(part.xml_path):
            found[str(part.xml_path)] = place_of_file(part.xml_path)
    return found


@dataclass(frozen=True)
class _Told:
    """The disks of the running guests, and why one of them may be on any storage."""

    uses: Sequence[DiskUse] = ()
    doubts: Sequence[str] = ()


def _told(libvirt: Libvirt, wanted: str, patience_s: float) -> _Told:
    """Return what libvirt tells; nothing if there is none. Raises GuestsUnknownError."""
    what = f"Asking libvirt at {libvirt.uri} for its guests"
    try:
        return _CALLS.answered(libvirt.uri, what, patience_s, lambda: _ask(libvirt))
    except ImportError as error:
        if remedy(error) is None:  # not for a package that is optional
            raise
    except FreezeframeError as error:
        if not _is_absent(error):
            raise GuestsUnknownError.of(wanted, error.message) from error
    except (OSError, ValueError) as error:
        raise GuestsUnknownError.of(wanted, f"{what} failed: {error}") from error
    return _Told()


def _ask(libvirt: Libvirt) -> _Told:
    # a machine without libvirt's package can restore too
    from workers.hypervisor.connection import Hypervisor  # noqa: PLC0415
    from workers.identity.uses import disk_uses  # noqa: PLC0415

    uses = disk_uses(Hypervisor(libvirt.uri, libvirt.run_dir))
    return _Told(uses, [use.unseen for use in uses if use.unseen and not _is_looked_at(libvirt.run_dir, use)])


def _is_looked_at(run_dir: Path | None, use: DiskUse) -> bool:
    """Return True if this user sees what the guest's QEMU has open: `open_elsewhere` has compared all of it."""
    from workers.identity.open_storage import of_guest  # noqa: PLC0415

    try:
        return run_dir is not None and bool(of_guest(run_dir, use.guest, use.guest_uuid))
    except (FreezeframeError, OSError):
        return False


def _is_absent(error: Exception) -> bool:
    """Return True if no daemon listens where libvirt's library looked for one: it says what connect(2) answered.

    [libvirt virnetsocket.c: virNetSocketNewConnectUNIX; virerror.c: virReportSystemErrorFull has the errno in int1]
    """
    cause: Any = error.__cause__
    if not hasattr(cause, "get_int1"):
        return False
    return cause.get_error_code() == _VIR_ERR_SYSTEM_ERROR and cause.get_int1() in _NO_DAEMON


def _in_use(where: str, use: DiskUse, uri: str) -> TargetInUseError:
    virsh, guest = f"virsh -c {shlex.quote(uri)}", virsh_word(use.guest, use.guest_uuid)
    return TargetInUseError(
        f"{where} is in use: the running guest {use.guest} has it, or a part of it, as its disk {use.target}.",
        advice=f"Shut the guest down, then restore again: `{virsh} shutdown {guest}`. Resume it first if it is paused: "
        f"`{virsh} resume {guest}`. One that crashed, is suspended or does not react can only be switched off: "
        f"`{virsh} destroy {guest}`.",
    )


def _is_remote(uri: str | None) -> bool:
    """Return True if the URI names a host: disks have other names there."""
    try:
        return bool(urlsplit(uri or "").hostname)
    except ValueError:
        return False
