"""Disk identity: what a disk *is*, so that an incremental is never built upon another disk's index (invariant 9).

A target name (`vdb`) says where a disk is plugged in, not which disk it is: two disks may exchange their targets while the
guest is off, and all bitmaps of one checkpoint have one name in every image.

    disk   ┌ active layer   the image or device that the guest writes to
           ├ data file      of a qcow2 that keeps its data elsewhere
           └ backing        images below the active layer, which the guest reads through it

Each layer is known by facts. Two layers are the same if all their facts are; where a layer was found (`place`) is for people.

| storage | facts |
|---|---|
| regular file | resolved path, inode number, birth time; where none is kept (NFS), the file handle, which has the generation |
| regular file without either (FUSE) | unknown, so it is always captured in full |
| the same as a backing layer | also its time of modification, since nothing may write to it |
| block device | the storage's own id: device-mapper UUID, WWID, serial number, RBD image, file of a loop device |
| block device without one | unknown, so it is always captured in full |
| network | protocol and name; the servers only where the name means nothing without them (NBD, HTTP, …) |

The file system's device number (st_dev) is no fact: the kernel gives those numbers out in the order in which file systems are
mounted, so the same file has another one after a reboot, and on the host that a guest migrates to.
"""

from __future__ import annotations

import json
from typing import Final

from pydantic import BaseModel, ConfigDict

#: How facts are found. A program that finds other facts counts one up: identities of two schemes never agree, which costs one
#: full capture.
SCHEME: Final = 1


class Layer(BaseModel):
    """One piece of storage that a disk's bytes come from."""

    model_config = ConfigDict(
        frozen=True, extra="ignore"
    )  # identities lie in manifests, which later programs write too

    kind: str  # file, block, network, …
    place: str  # where it was found, for people
    facts: dict[str, str]
    lies_on: tuple[
        str, ...
    ] = ()  # keys of the storage below it (`storage_key`), by which others may write to it; no fact


class DiskIdentity(BaseModel):
    """The identity of a disk: its layers, each known by facts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    scheme: int = SCHEME
    active: Layer
    data_file: Layer | None = None
    backing: tuple[Layer, ...] = ()

    @property
    def key(self) -> str:
        """The same text for the same disk, and only for it."""
        layers = [self.active, self.data_file, *self.backing]
        facts = [None if layer is None else [layer.kind, sorted(layer.facts.items())] for layer in layers]
        return json.dumps([self.scheme, facts])


def difference(before: DiskIdentity, now: DiskIdentity) -> str | None:
    """Say how `now` differs from the disk that it was; None if it is the same. Pure."""
    if before.scheme != now.scheme:
        return "its identity was found out in another way"
    if found := _layer_difference("its storage", before.active, now.active):
        return found
    if (before.data_file is None) != (now.data_file is None):
        return "it had a data file" if before.data_file else "it had no data file"
    if (
        before.data_file
        and now.data_file
        and (found := _layer_difference("its data file", before.data_file, now.data_file))
    ):
        return found
    if len(before.backing) != len(now.backing):
        return f"it has {len(now.backing)} backing images instead of {len(before.backing)}"
    pairs = zip(before.backing, now.backing, strict=True)
    found_below = (_layer_difference(f"its backing image {now.place}", before, now) for before, now in pairs)
    return next(filter(None, found_below), None)


def _layer_difference(what: str, before: Layer, now: Layer) -> str | None:
    if before.kind != now.kind:
        return f"{what} is a {now.kind} instead of a {before.kind}"
    names = sorted({*before.facts, *now.facts})
    pairs = [(name, before.facts.get(name, "unknown"), now.facts.get(name, "unknown")) for name in names]
    differing = [f"{name} {new} instead of {old}" for name, old, new in pairs if new != old]
    return f"{what} is another: {', '.join(differing)}" if differing else None
