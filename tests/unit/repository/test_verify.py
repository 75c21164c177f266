from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.verify import CHUNK_TIERS, Progress

from .samples import CHUNK, capture_id, disk_capture, disk_of, envelope_of, manifest_of, random_disk, seal, store_disk


def remove(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(path: Path) -> None:
    path.write_bytes(envelope_of(disk_of(b"another")))


def the_chunk(root: Path) -> Path:
    (path,) = (root / "chunks").glob("??/*")
    return path


@pytest.mark.parametrize("tier", CHUNK_TIERS)
def test_a_sound_capture_is_sound(repository: Repository, tier: Tier) -> None:
    manifest = seal(repository, 1, random_disk(200) + disk_of(b"", b"a", b"a"))
    told: list[Progress] = []
    report = verify(repository, [manifest], tier, told.append)
    assert report.sound
    assert report.damaged_captures == []
    assert (report.captures, report.chunks_checked) == ((capture_id(1),), 201)
    assert [one.chunks_checked for one in told] == list(range(1, 202))
    assert {one.chunks_total for one in told} == {201}
    assert (report.bytes_read > 0) == (tier is not Tier.PRESENT)


@pytest.mark.parametrize(
    ("harm", "seen_by"),
    [
        (remove, {Tier.PRESENT, Tier.DECODABLE, Tier.REHASHED}),
        (cut_short, {Tier.DECODABLE, Tier.REHASHED}),
        (swap, {Tier.REHASHED}),
    ],
)
def test_each_tier_sees_what_it_looks_for(
    repository: Repository, root: Path, harm: Callable[[Path], None], seen_by: set[Tier]
) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    path = the_chunk(root)
    harm(path)
    for tier in CHUNK_TIERS:
        report = verify(repository, [manifest], tier)
        assert report.sound == (tier not in seen_by)
        assert [one.digest for one in report.chunks] == ([path.name] if tier in seen_by else [])


def test_an_empty_chunk_is_not_present(repository: Repository, root: Path) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    the_chunk(root).write_bytes(b"")
    assert not verify(repository, [manifest], Tier.PRESENT).sound


def test_every_capture_that_a_damaged_chunk_belongs_to_is_named(repository: Repository, root: Path) -> None:
    first = seal(repository, 1, disk_of(b"a"))
    path = the_chunk(root)
    shared, other = store_disk(repository, disk_of(b"b", b"a")), store_disk(repository, disk_of(b"c"))
    repository.write_manifest(
        manifest_of(2, disk_capture(other, CHUNK, target="vda"), disk_capture(shared, 2 * CHUNK, target="vdb"))
    )
    repository.write_manifest(manifest_of(3, disk_capture(other, CHUNK)))
    path.unlink()
    report = verify(repository, [first])
    assert report.damaged_captures == [capture_id(2), capture_id(1)]
    assert [(one.capture_id, one.target) for one in report.chunks[0].places] == [
        (capture_id(2), "vdb"),
        (capture_id(1), "vda"),
    ]


def test_a_damaged_index_is_named_and_the_other_disks_are_still_looked_at(repository: Repository, root: Path) -> None:
    one, two = store_disk(repository, disk_of(b"a")), store_disk(repository, disk_of(b"b"))
    manifest = manifest_of(1, disk_capture(one, CHUNK), disk_capture(two, CHUNK, target="vdb"))
    repository.write_manifest(manifest)
    cut_short(root / "indexes" / one[:2] / one)
    report = verify(repository, [manifest])
    assert [(damage.digest, damage.places[0].target) for damage in report.indexes] == [(one, "vda")]
    assert (report.chunks_checked, report.chunks) == (1, ())


def test_a_chunk_set_aside_is_written_anew_by_the_next_full_capture(repository: Repository, root: Path) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    the_chunk(root).unlink()
    seal(repository, 2, disk_of(b"a"))
    assert verify(repository, [manifest]).sound
