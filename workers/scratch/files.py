"""Scratch files, made in prepare so that the hold need not.

What a guest overwrites goes there as the guest wrote it, so the scratch file of a disk that QEMU decrypts is encrypted itself:
with a passphrase made for this one file, which libvirt and the worker have in memory until the release, and nobody else has.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

import structlog

from freezeframe.contract.result import PreparedDisk
from workers import durable
from workers.host import Host
from workers.hypervisor.domain import Domain
from workers.journal import CaptureJournal, ReservationChange, ScratchChange
from workers.scratch import account
from workers.scratch.errors import PassphraseLostError, ScratchSpaceError
from workers.tools import english

log = structlog.get_logger("scratch")

#: Seconds for qemu-img, which takes tens of milliseconds; for an encrypted file some seconds on a busy machine.
CREATE_S: Final = 60
#: Milliseconds that opening the file takes QEMU, which it does in the hold. A passphrase of 256 random bits is not found by
#: trying, however little work each try is.
LUKS_ITERATE_MS: Final = 10
LUKS_TRIES: Final = 20
_NOT_MEASURED: Final = "accurate CPU usage"


def scratch_secret(capture_id: str, guest_uuid: str, target: str) -> str:
    """Return the UUID by which libvirt knows the passphrase of a disk's scratch file: the same whoever asks."""
    return str(uuid5(UUID(guest_uuid), f"{capture_id}.{target}"))


def make_files(host: Host, journal: CaptureJournal, domain: Domain, disks: Sequence[PreparedDisk]) -> None:
    """Reserve a guest's room and make its scratch files.

    Raises ScratchSpaceError; PassphrasesUnavailableError, before anything is written down of a passphrase that would have to
    be taken back from a keeper that is not there.
    """
    for disk in disks:
        if disk.scratch_secret:
            host.hypervisor.has_secret(disk.scratch_secret)
    durable.make_directory(host.settings.scratch_dir, durable.PASSABLE)
    needed = account.needed_bytes((disk.size_bytes for disk in disks), host.settings.scratch_share)
    change = ReservationChange(
        guest_uuid=domain.uuid,
        guest=domain.name,
        needed_bytes=needed,
        targets=tuple(disk.target for disk in disks),
        images=tuple(Path(disk.source) for disk in disks if disk.checkpoint and disk.source.startswith("/")),
    )
    account.reserve(host, journal, change)
    for disk in disks:
        _make_file(host, journal, domain, disk)


def renew_files(host: Host, journal: CaptureJournal, domain: Domain, disks: Sequence[PreparedDisk]) -> list[Path]:
    """Give libvirt the passphrases again that it has lost, because it was restarted since.

    A worker that was restarted too has them no more. Then the file is made anew with another one: nothing is in it before the
    backup begins. Return the paths of such files: they are root's, and have to be given to QEMU's user. Raises what
    `make_files` raises.
    """
    anew = [
        disk for disk in disks if disk.scratch_secret and not _is_kept(host, domain, disk.target, disk.scratch_secret)
    ]
    for disk in anew:
        log.warning("a scratch file is made anew, because its passphrase was lost", guest=domain.name, disk=disk.target)
        _write_file(host, journal, domain, disk)
    return [host.scratch_file(journal.capture_id, domain.uuid, disk.target) for disk in anew]


def _is_kept(host: Host, domain: Domain, target: str, secret_id: str) -> bool:
    if host.hypervisor.has_secret(secret_id):
        return True
    log.warning("libvirt has lost the passphrase of a scratch file", guest=domain.name, disk=target)
    return host.hypervisor.keep_again(secret_id)


def check_passphrases(host: Host, domain: Domain, disks: Sequence[PreparedDisk]) -> None:
    """Raise PassphraseLostError if libvirt has lost the passphrase of a scratch file."""
    lost = [
        disk.target for disk in disks if disk.scratch_secret and not host.hypervisor.has_secret(disk.scratch_secret)
    ]
    if lost:
        raise PassphraseLostError(
            f"libvirt no longer has the passphrase for the scratch file of guest {domain.name}, disk {', '.join(lost)}: it, or "
            "virtsecretd, was restarted while the hosts met."
        )


def _make_file(host: Host, journal: CaptureJournal, domain: Domain, disk: PreparedDisk) -> None:
    path = host.scratch_file(journal.capture_id, domain.uuid, disk.target)
    durable.make_directory(path.parent, durable.PASSABLE)
    journal.record(ScratchChange(guest_uuid=domain.uuid, path=path, secret=disk.scratch_secret))
    _write_file(host, journal, domain, disk)


def _write_file(host: Host, journal: CaptureJournal, domain: Domain, disk: PreparedDisk) -> None:
    path = host.scratch_file(journal.capture_id, domain.uuid, disk.target)
    if disk.scratch_secret:
        passphrase = secrets.token_hex(32).encode()
        purpose = f"freezeframe: scratch file of guest {domain.name}, disk {disk.target}, capture {journal.capture_id}"
        host.hypervisor.keep_secret(disk.scratch_secret, passphrase, purpose)
        done = create_encrypted(path, disk.size_bytes, passphrase)
    else:
        done = _create(path, disk.size_bytes)
    if done.returncode:
        raise ScratchSpaceError(
            f"The scratch file for disk {disk.target} of guest {domain.name} cannot be made: {done.stderr.strip()}",
            advice="Look at the file system of FREEZEFRAME_SCRATCH_DIR.",
        )
    path.chmod(0o600)  # others pass through the directories, and libvirt gives the file to QEMU's user


def _create(
    path: Path, size_bytes: int, *options: str, descriptors: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *options, os.fspath(path), str(size_bytes)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=CREATE_S,
        check=False,
        pass_fds=tuple(descriptors),
        env=english(),
    )


def create_encrypted(path: Path, size_bytes: int, passphrase: bytes) -> subprocess.CompletedProcess[str]:
    """Make a file that is encrypted inside of its qcow2 format. The passphrase goes through a pipe.

    qemu-img measures how fast this machine derives a key, by the CPU time that the kernel has counted for it; where the kernel
    counts by ticks that can be nothing, and qemu-img gives up within milliseconds. Then it is asked again, LUKS_TRIES times at
    most. [QEMU crypto/pbkdf.c, qcrypto_pbkdf2_count_iters]
    """
    for _ in range(LUKS_TRIES - 1):
        done = _try_encrypted(path, size_bytes, passphrase)
        if not done.returncode or _NOT_MEASURED not in done.stderr:
            return done
    return _try_encrypted(path, size_bytes, passphrase)


def _try_encrypted(path: Path, size_bytes: int, passphrase: bytes) -> subprocess.CompletedProcess[str]:
    read, write = os.pipe()
    try:
        with os.fdopen(write, "wb") as pipe:
            pipe.write(passphrase)  # shorter than what a pipe holds
        luks = f"encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time={LUKS_ITERATE_MS}"
        key = f"secret,id=key,file=/dev/fd/{read}"
        return _create(path, size_bytes, "-o", luks, "--object", key, descriptors=[read])
    finally:
        os.close(read)
