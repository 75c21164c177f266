"""What names a block device on every host: equal keys mean one piece of storage, whichever host and name leads to it. Pure.

| facts of the device              | key                                                                             |
|----------------------------------|---------------------------------------------------------------------------------|
| WWID, and partition              | `wwid naa.6001405 2`                                                            |
| a multipath map over it          | the same: its device-mapper UUID, `part2-mpath-36001405`, holds the WWID        |
| logical volume                   | its device-mapper UUID, made of LVM's two UUIDs                                 |
| array of MD                      | its UUID                                                                        |
| RBD image, mapped by the kernel  | cluster's id, pool, image id                                                    |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_WORLD_WIDE: Final = ("WWID", "SCSI WWID")
_MULTIPATH: Final = re.compile(r"(?:part([0-9]+)-)?mpath-(.+)")
#: The first letter of a multipath map's name for a SCSI device is the kind of its designator. [udev: scsi_id]
_DESIGNATORS: Final = {"2": "eui.", "3": "naa."}
#: The first words of keys that mean the same storage on every host; others are compared on one host only.
_EVERYWHERE: Final = frozenset({"wwid", "lvm", "md", "rbd", "iscsi", "network"})


def is_everywhere(key: str) -> bool:
    """Return True for a key that means the same storage on every host, of a device or of network storage (`network_key`)."""
    return key.partition(" ")[0] in _EVERYWHERE


def everywhere_key(facts: Mapping[str, str]) -> str | None:
    """Return the key of the block device with these facts (`contract.identity`); None if nothing names it everywhere."""
    part = facts.get("partition", "")
    for name in _WORLD_WIDE:
        if name in facts:
            return f"wwid {facts[name]} {part}"
    mapped = facts.get("device-mapper UUID", "")
    if found := _MULTIPATH.fullmatch(mapped):
        designator = found[2]
        kind = _DESIGNATORS.get(designator[0])
        return f"wwid {kind + designator[1:] if kind else designator} {found[1] or part}"
    if mapped.startswith("LVM-"):
        return f"lvm {mapped} {part}"
    if "array UUID" in facts:
        return f"md {facts['array UUID']} {part}"
    return f"rbd {sorted(facts.items())}" if "cluster_fsid" in facts else None
