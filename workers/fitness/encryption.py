"""Decide whether a disk that QEMU decrypts may be captured. Pure.

QEMU exports such a disk as plain text, and writes what the guest overwrites meanwhile to a scratch file, as plain text too. The
scratch files are made ahead of the hold (REUSE_EXTERNAL), and libvirt would encrypt one only with a secret that we cannot
read to make it. So an encrypted repository alone does not keep the disk's content secret: the caller must agree.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable

from workers.hypervisor.disk import DomainDisk
from workers.steps.refusal import DiskEncryptedError


def encryption_refusal(guest: str, disk: DomainDisk, agreed: Collection[str]) -> DiskEncryptedError | None:
    """Return the refusal of an encrypted disk whose plain text the caller has not agreed to have captured."""
    if disk.encryption is None or disk.target in agreed:
        return None
    choice = shlex.quote(f"{guest}:{disk.target}")
    return DiskEncryptedError(
        f"Disk {disk.target} of guest {guest} is encrypted ({disk.encryption}), and QEMU gives it out decrypted: its "
        "scratch file would be plain text, and so would the repository, unless that is encrypted itself.",
        advice=f"Agree to that with --decrypt-disk {choice}, or leave the disk out with --skip-disk {choice}.",
    )


def plain_text_warnings(guest: str, taken: Iterable[DomainDisk]) -> tuple[str, ...]:
    """Return a sentence for each captured disk that was encrypted."""
    return tuple(
        f"Disk {disk.target} of guest {guest} is encrypted ({disk.encryption}) and was captured decrypted, as agreed."
        for disk in taken
        if disk.encryption is not None
    )
