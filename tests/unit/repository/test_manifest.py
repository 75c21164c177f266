from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.proof import Arrival, GuestProof, HostProof, Proof
from freezeframe.contract.words import HoldKind
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.document import checked
from freezeframe.repository.errors import CaptureNotFound, IndexDamaged, ManifestUnreadable
from freezeframe.repository.manifest import parse_manifest

from .samples import CHUNK, GUEST, capture_id, disk_capture, disk_of, manifest_of, seal, store_disk

PROOF = Proof(
    epoch=3,
    members=("host-a.example",),
    arrivals=(Arrival(host_id="host-a.example", redis_us=5),),
    release_us=6,
    hosts=(
        HostProof(
            host_id="host-a.example",
            boot_id="b",
            guests=(GuestProof(guest_uuid=GUEST, hold=GuestHold(kind=HoldKind.FREEZE), hold_start_ns=1),),
        ),
    ),
)


def a_manifest(number: int = 1) -> Manifest:
    return manifest_of(number, disk_capture("ab" * 32, 2 * CHUNK, checkpoint="cp"))


def parsed(data: bytes) -> Manifest:
    return parse_manifest(data, capture_id(1), "there")


@pytest.mark.parametrize("proof", [None, PROOF])
def test_what_is_written_is_read(proof: Proof | None) -> None:
    manifest = a_manifest().model_copy(update={"proof": proof})
    assert parsed(manifest.to_json()) == manifest


def test_a_manifest_has_one_form() -> None:
    data = a_manifest().to_json()
    assert parsed(data).to_json() == data
    assert data.endswith(b"}\n")
    assert json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode() + b"\n" == data


@given(st.binary(max_size=300))
def test_garbage_is_damage(garbage: bytes) -> None:
    with pytest.raises(ManifestUnreadable, match="there"):
        parsed(garbage)


@given(st.integers(0, 2000), st.binary(max_size=3))
def test_a_changed_manifest_is_damage_or_says_the_same(at: int, other: bytes) -> None:
    data = a_manifest().to_json()
    with suppress(ManifestUnreadable):
        assert parsed(data[: at % len(data)] + other + data[at % len(data) + 1 :]) == a_manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"more": 1, "critical": ["more"]},
        {"capture_id": "x"},
        {"capture_id": capture_id(2)},
        {"guests": [{}]},
        {"created_at": 0},
    ],
)
def test_what_is_not_a_manifest_of_this_format_is_damage(change: dict[str, object]) -> None:
    content = json.loads(a_manifest().to_json())
    content.update(change)
    if "created_at" in change:
        del content["created_at"]
    with pytest.raises(ManifestUnreadable, match="there"):
        parsed(checked(content))


def test_a_disk_of_which_it_is_not_known_what_it_is_has_no_such_key() -> None:
    storage = Layer(kind="file", place="/images/disk.qcow2", facts={"inode": "7"})
    disk = disk_capture("ab" * 32, CHUNK).model_copy(update={"identity": DiskIdentity(active=storage)})
    known, unknown = manifest_of(1, disk), manifest_of(1, disk_capture("ab" * 32, CHUNK))
    assert b"identity" not in unknown.to_json()
    assert parsed(unknown.to_json()).guests[0].disks[0].identity is None
    assert parsed(known.to_json()) == known


def test_captures_are_listed_newest_first(repository: Repository) -> None:
    for number in (2, 1, 3):
        seal(repository, number, disk_of(b"a"))
    assert [one.capture_id for one in repository.manifests()] == [capture_id(n) for n in (3, 2, 1)]


def test_a_capture_is_found_by_its_id_a_beginning_or_latest(repository: Repository) -> None:
    one, two = seal(repository, 19, disk_of(b"a")), seal(repository, 21, disk_of(b"a"))
    assert repository.manifest(one.capture_id) == one
    assert repository.manifest(capture_id(19)[:25].lower()) == one
    assert repository.manifest("latest") == two
    with pytest.raises(CaptureNotFound, match="2 captures"):
        repository.manifest(capture_id(19)[:24])
    for nothing in (capture_id(3), "../config", "", "?"):
        with pytest.raises(CaptureNotFound):
            repository.manifest(nothing)


def test_an_empty_repository_has_no_latest(repository: Repository) -> None:
    assert repository.manifests() == []
    with pytest.raises(CaptureNotFound):
        repository.manifest("latest")


def test_one_damaged_manifest_does_not_hide_the_others(repository: Repository, root: Path) -> None:
    sound = seal(repository, 1, disk_of(b"a"))
    (root / "manifests" / f"{capture_id(2)}.json").write_text("{")
    (root / "manifests" / ".swp").write_text("not ours")
    with pytest.raises(ManifestUnreadable, match=capture_id(2)):
        repository.manifests()
    damaged: list[ManifestUnreadable] = []
    assert repository.manifests(damaged.append) == [sound]
    assert capture_id(2) in damaged[0].message


def test_a_capture_without_its_index_is_not_sealed(repository: Repository) -> None:
    with pytest.raises(IndexDamaged, match="missing"):
        repository.write_manifest(a_manifest())
    assert repository.manifests() == []


def test_a_capture_with_the_index_of_another_disk_is_not_sealed(repository: Repository) -> None:
    index = store_disk(repository, disk_of(b"a"))
    with pytest.raises(IndexDamaged, match="another disk"):
        repository.write_manifest(manifest_of(1, disk_capture(index, 2 * CHUNK)))
    assert repository.manifests() == []
