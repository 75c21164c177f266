"""Decide whether a disk that QEMU decrypts may be captured. Pure.

QEMU exports such a disk as plain text, over a Unix socket that root and QEMU's user can open. Its scratch file is encrypted
(`workers/scratch/files.py`), so what is left is the repository: if that is not encrypted, the caller must agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from freezeframe.naming import NamedGuest
from workers.hypervisor.disk import DomainDisk
from workers.refusal import DiskEncryptedError


def encryption_refusal(
    guest: NamedGuest, disk: DomainDisk, agreed: Collection[str], *, repository_encrypted: bool
) -> DiskEncryptedError | None:
    """Return the refusal of an encrypted disk that would lie in the repository as plain text, and nobody has agreed to that."""
    if disk.encryption is None or disk.target in agreed or repository_encrypted:
        return None
    choice = guest.option(disk.target)
    return DiskEncryptedError(
        f"Disk {disk.target} of guest {guest} is encrypted ({disk.encryption}), and QEMU gives it out decrypted: it would lie "
        "in the repository as plain text, because that is not encrypted.",
        advice=f"Capture it into an encrypted repository, agree to its plain text with --decrypt-disk {choice}, or leave "
        f"the disk out with --skip-disk {choice}.",
    )


def plain_text_warnings(
    guest: NamedGuest, taken: Iterable[DomainDisk], *, repository_encrypted: bool
) -> tuple[str, ...]:
    """Return a sentence for each captured disk that was encrypted: what protects it now."""
    now = "into a repository that is encrypted itself" if repository_encrypted else "as agreed"
    return tuple(
        f"Disk {disk.target} of guest {guest} is encrypted ({disk.encryption}) and was captured decrypted, {now}."
        for disk in taken
        if disk.encryption is not None
    )
