"""Options that a definition hands to QEMU past libvirt (`<qemu:arg>`), and on which data may lie. Pure.

What libvirt does not know of is in no backup. A device that uses a `-drive` or `-blockdev` is told by that one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

_DRIVES: Final = frozenset({"drive", "blockdev", "hda", "hdb", "hdc", "hdd", "sd", "mtdblock", "pflash", "usbdrive"})
_DIRECTORIES: Final = frozenset({"virtfs", "fsdev"})

#: Devices with data that comes from elsewhere than a block device of QEMU's. [QEMU hw/vfio, hw/scsi, hw/block, hw/mem, hw/usb]
_DEVICES: Final = re.compile(
    r"(?:x-)?vfio-.*|vhost-(?:user-)?(?:scsi|blk|fs).*|vhost-vdpa-device.*|nvdimm|virtio-pmem.*|virtio-9p.*|usb-(?:host|mtp)"
)


def told_to_qemu(words: Sequence[str]) -> list[str]:
    """Return what the options name on which data may lie, each once, for people."""
    found: set[str] = set()
    for word, value in zip(words, [*words[1:], ""], strict=False):
        option = word.lstrip("-") if word.startswith("-") else ""
        if option in _DRIVES:
            found.add(f"a drive by QEMU's option -{option}")
        elif option in _DIRECTORIES:
            found.add(f"a directory of the host by QEMU's option -{option}")
        elif option == "readconfig":
            found.add("devices by a file of QEMU's option -readconfig")
        elif option == "usbdevice" and value.partition(":")[0] in {"disk", "host"}:
            found.add(f"a device {value.partition(':')[0]} by QEMU's option -usbdevice")
        elif option == "device" and _DEVICES.fullmatch(driver := _driver(value)):
            found.add(f"a device {driver} by QEMU's option -device")
    return sorted(found)


def _driver(value: str) -> str:
    """Return the driver of a `-device`: its first word, or `driver` in JSON or among its properties."""
    if value.lstrip().startswith("{"):
        try:
            return str(json.loads(value).get("driver", ""))
        except (ValueError, RecursionError):
            return ""
    named = re.search(r"(?:^|,)driver=([^,]*)", value)
    return named[1] if named else value.partition(",")[0]
