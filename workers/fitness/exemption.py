"""Decide which devices need no freeze although nothing is mounted from them. Pure.

| device                                   | by                 | why it needs no freeze                                  |
|------------------------------------------|--------------------|---------------------------------------------------------|
| swap in use                              | /proc/swaps        | its content is worth nothing after the next start       |
| extended (MBR)                           | its type           | it has room for links to logical partitions only        |
| BIOS boot, PReP, EFI system, not mounted | its type           | boot loaders are written when they are installed        |
| a file system that nothing writes to     | its content        | such as the ISO 9660 with a guest's first configuration |

Type and content are those in udev's database. A partition with one of these types in which udev has found something else,
such as a ZFS pool, is not exempt.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

#: File systems that nothing writes to, mounted however. They cannot be frozen and need not be.
READ_ONLY_KINDS: Final = frozenset({"squashfs", "erofs", "cramfs", "romfs", "iso9660", "cdfs"})

_EXTENDED: Final = frozenset({"0x5", "0xf", "0x85"})
_BOOT: Final = frozenset(
    {
        "21686148-6449-6e6f-744e-656564454649",  # BIOS boot
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b",  # PReP
        "0x41",  # PReP
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",  # EFI system
        "0xef",  # EFI system
    }
)
#: The only thing that belongs into one of them: the file system of an EFI system partition.
_BOOT_CONTENT: Final = "vfat"


def swaps_in_use(swaps: str, names: Collection[str]) -> frozenset[str]:
    """Return the devices of `names` that the guest swaps to, by its /proc/swaps. A swap file is no device."""
    rows = [line.split() for line in swaps.splitlines()[1:]]
    return frozenset(row[0] for row in rows if row[1:2] == ["partition"] and row[0] in names)


def udev_entry(uevent: str) -> str | None:
    """Return the place of a device's entry in udev's database, by its `uevent` in /sys; None if that names no number."""
    found = _values(uevent)
    number = (found.get("MAJOR", ""), found.get("MINOR", ""))
    return "/run/udev/data/b{}:{}".format(*number) if all(one.isdecimal() and one.isascii() for one in number) else None


def is_exempt(entry: str) -> bool:
    """Return True for a boot area, and for a file system that nothing writes to, by the device's entry in udev's database."""
    found = _values("\n".join(line.removeprefix("E:") for line in entry.splitlines() if line.startswith("E:")))
    kind, content = found.get("ID_PART_ENTRY_TYPE", "").lower(), found.get("ID_FS_TYPE", "")
    return content in READ_ONLY_KINDS or (kind in _EXTENDED | _BOOT and content in {"", _BOOT_CONTENT})


def _values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
