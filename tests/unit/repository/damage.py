"""Damage: what a disk, a network or a hand does to stored bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .locked import KEY_FILE, locked
from .samples import CHUNK, disk_capture, disk_of, manifest_of, random_disk, store_disk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezeframe.repository import Manifest, Repository
    from freezeframe.repository.crypto import Suite
    from freezeframe.repository.store import MemoryStore

Objects = dict[str, bytes]


class Sort(Enum):
    FLIPPED = "flipped"
    CUT = "cut"
    EXTENDED = "extended"
    EMPTY = "empty"
    SWAPPED = "swapped"


@dataclass(frozen=True)
class Damage:
    """To the `nth` object in the order of names. `at`: the bit, the length, or the other object; each modulo what there is."""

    sort: Sort
    nth: int
    at: int
    more: bytes = b"\0"

    def done_to(self, objects: Mapping[str, bytes]) -> tuple[Objects, list[str]]:
        """The objects with the damage, and the names of those that have it."""
        names = sorted(objects)
        name, after = names[self.nth % len(names)], dict(objects)
        data = after[name]
        if self.sort is Sort.FLIPPED:
            changed = bytearray(data)
            changed[self.at // 8 % len(data)] ^= 1 << self.at % 8
            after[name] = bytes(changed)
        elif self.sort is Sort.SWAPPED:
            other = names[self.at % len(names)]
            after[name], after[other] = after[other], data
            return after, [name, other]
        else:
            after[name] = {
                Sort.CUT: data[: self.at % len(data)],
                Sort.EXTENDED: data + self.more,
                Sort.EMPTY: b"",
            }[self.sort]
        return after, [name]


def fill(repository: Repository) -> list[Manifest]:
    """Two captures that share chunks; the first has two disks, the second is an incremental of one of them.

    The chunks: text, noise, and one at the end of a disk that is shorter than the others.
    """
    first = disk_of(b"a", b"", b"text ") + random_disk(1)
    other = disk_of(b"text ") + b"short"
    indexes = [store_disk(repository, disk, checkpoint="cp-1") for disk in (first, other)]
    full = manifest_of(
        1, disk_capture(indexes[0], len(first), checkpoint="cp-1"), disk_capture(indexes[1], len(other), target="vdb")
    )
    repository.write_manifest(full)
    second = first[:-CHUNK] + disk_of(b"z")
    upon = store_disk(repository, second, parent=indexes[0])
    incremental = manifest_of(2, disk_capture(upon, len(second)))
    repository.write_manifest(incremental)
    return [incremental, full]


def locked_with_two_slots(store: MemoryStore, suite: Suite) -> Repository:
    """One for the passphrase, one for the key file."""
    repository = locked(store, suite=suite)
    slots, keys = repository.encryption
    slots.add(keys, KEY_FILE, "second")
    return repository


def words_for(repository: Repository, manifests: list[Manifest]) -> dict[str, list[str]]:
    """For each object by its name: what a message may call it."""
    protection = repository.objects.protection
    words = {"config": ["onfig of", "has format", "does not know"]}
    for manifest in manifests:
        words[protection.manifest_name(manifest.capture_id)] = [manifest.capture_id]
        for _, disk in manifest.disks():
            words[protection.index_name(bytes.fromhex(disk.index))] = [disk.index]
            with repository.index(disk.index) as index:
                for _, digest in index.used_slots():
                    words[protection.locate(digest)] = [digest.hex()]
    return words
