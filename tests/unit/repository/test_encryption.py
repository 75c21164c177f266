"""Encrypted repositories: nothing but sizes shows."""

from __future__ import annotations

import hashlib
from pathlib import Path

from freezeframe.repository import Manifest, Repository
from freezeframe.repository.store import MemoryStore

from .locked import locked, locked_at, names_of
from .samples import (
    CHUNK,
    disk_capture,
    disk_of,
    manifest_of,
    random_disk,
    seal,
    store_disk,
)

FINDABLE = b"a line that is in the guest's disk. "


def index_of(manifest: Manifest) -> str:
    return manifest.guests[0].disks[0].index


def everything(root: Path) -> list[tuple[str, bytes]]:
    return [(str(path.relative_to(root)), path.read_bytes()) for path in root.rglob("*") if path.is_file()]


def tell_tale(repository: Repository) -> tuple[Manifest, bytes]:
    """A capture whose every word is too long to come up by chance, and its disk."""
    disk = disk_of(FINDABLE, b"x") + random_disk(2)
    plain = manifest_of(1, disk_capture(store_disk(repository, disk), len(disk)))
    guest = plain.guests[0].model_copy(update={"name": "orders-database", "domain_xml": "<domain type='kvm'/>"})
    manifest = plain.model_copy(update={"guests": (guest,), "group": "storefront", "tags": ("every-night",)})
    repository.write_manifest(manifest)
    return manifest, disk


def clues(manifest: Manifest, disk: bytes) -> list[bytes]:
    """What somebody may look for: words, and digests as text and in binary."""
    digests = [hashlib.sha256(disk[at : at + CHUNK]).hexdigest() for at in range(0, len(disk), CHUNK)]
    guest = manifest.guests[0]
    texts = [
        manifest.capture_id,
        "every-night",
        "storefront",
        "/images/disk",
        "checkpoint",
        "horse",
        index_of(manifest),
    ]
    texts += [guest.name, guest.guest_uuid, guest.host_id, guest.domain_xml, *digests]
    return [FINDABLE.strip(), *(text.encode() for text in texts), *(bytes.fromhex(one) for one in digests)]


def found(clue: bytes, root: Path) -> list[str]:
    return [name for name, data in everything(root) if clue in data or clue in name.encode()]


def test_nothing_of_a_capture_is_in_any_byte_or_name_of_the_repository(root: Path) -> None:
    manifest, disk = tell_tale(locked_at(root))
    assert len(everything(root)) == 8  # the config, a key slot, a manifest, an index, four chunks
    assert {clue: found(clue, root) for clue in clues(manifest, disk) if found(clue, root)} == {}


def test_without_encryption_the_same_search_finds_it(repository: Repository, root: Path) -> None:
    """Else the test above would find nothing for another reason."""
    manifest, disk = tell_tale(repository)
    assert [clue for clue in clues(manifest, disk) if not found(clue, root)] == [b"horse"]  # the passphrase


def test_two_repositories_call_the_same_chunk_and_capture_differently() -> None:
    stores = MemoryStore(), MemoryStore()
    for store in stores:
        seal(locked(store), 1, disk_of(b"a"))
    assert set(names_of(stores[0])) & set(names_of(stores[1])) == {"config"}
