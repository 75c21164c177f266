"""Rehearsals: what a restore brings back is compared with the index, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository import Manifest, Repository, Tier
from freezeframe.repository.layout import index_name, locate
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.verify import verify_restored
from freezeframe.repository.verify.record import read_records
from workers.restore import rehearsal
from workers.restore.disk import DiskPart, restore_disk
from workers.restore.errors import NoRoomError, TargetUnfitError
from workers.restore.rehearsal import ScratchRehearsal, compare
from workers.restore.report import RestoredDisk

from .samples import CAPTURE, CHUNK, disk_bytes, disk_capture, guest_capture, manifest_of, noise, store

SIZE = 9 * CHUNK + 4096
DISK = disk_bytes(SIZE, (0, CHUNK), (4 * CHUNK, 2 * CHUNK), (9 * CHUNK, 100))
SMALL = disk_bytes(2 * CHUNK, (CHUNK, CHUNK))


@pytest.fixture
def repository() -> Repository:
    return Repository.init_in(MemoryStore(), chunk_bytes=CHUNK)


def spoil(repository: Repository, index: str, nth: int) -> None:
    """Flip a bit in the disk's nth chunk."""
    with repository.index(index) as opened:
        name = locate([digest for _, digest in opened.used_slots()][nth])
    data = bytearray(repository.store.get(name))
    data[len(data) // 2] ^= 1
    repository.store.put_many([(name, data)])


@pytest.fixture
def manifest(repository: Repository) -> Manifest:
    made = manifest_of(
        guest_capture(disk_capture(repository, DISK), disk_capture(repository, SMALL, "vdb")),
        guest_capture(disk_capture(repository, SMALL), name="beta", uuid="11111111-2222-3333-4444-555555555555"),
    )
    repository.write_manifest(made)
    return made


def test_a_sound_capture_is_restored_compared_and_taken_away(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    report = verify_restored(repository, [manifest], ScratchRehearsal(target))
    assert report.sound
    assert report.tier is Tier.RESTORED
    assert report.chunks_checked == 4 + 1  # the small disk is the same twice, and restored once
    assert list(target.iterdir()) == []
    assert list(read_records(repository.objects).restored.captures) == [CAPTURE]


def test_all_damaged_chunks_are_found_not_only_the_first(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    for nth in (0, 2):
        spoil(repository, manifest.guests[0].disks[0].index, nth)
    report = verify_restored(repository, [manifest], ScratchRehearsal(target), set_aside=True)
    assert [one.set_aside for one in report.chunks] == [True, True]
    assert {place.target for one in report.chunks for place in one.places} == {"vda"}
    assert report.restores == ()
    assert list(target.iterdir()) == []
    assert read_records(repository.objects).restored.captures == {}


def test_a_damaged_index_is_told(repository: Repository, manifest: Manifest, target: Path) -> None:
    index = manifest.guests[0].disks[0].index
    repository.store.delete(index_name(bytes.fromhex(index)))
    report = verify_restored(repository, [manifest], ScratchRehearsal(target))
    assert [one.digest for one in report.indexes] == [index]
    assert report.restores == ()


def spoiling(offset: int) -> Callable[..., RestoredDisk]:
    """A restore whose file system spoils a write."""

    def restore(repository: Repository, part: DiskPart, **wishes: Any) -> RestoredDisk:
        done = restore_disk(repository, part, **wishes)
        with part.path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * 16)
        return done

    return restore


@pytest.mark.parametrize(("offset", "slot"), [(5 * CHUNK, 5), (2 * CHUNK + 77, 2), (SIZE - 100, 9)])
def test_what_a_restore_spoils_is_found_although_every_chunk_is_sound(
    repository: Repository,
    manifest: Manifest,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    offset: int,
    slot: int,
) -> None:
    monkeypatch.setattr(rehearsal, "restore_disk", spoiling(offset))
    alone = manifest.model_copy(update={"guests": (guest_capture(manifest.guests[0].disks[0]),)})
    report = verify_restored(repository, [alone], ScratchRehearsal(target), set_aside=True)
    assert (report.indexes, report.chunks) == ((), ())
    (wrong,) = report.restores
    assert f"disk vda of guest alpha in capture {CAPTURE} reads back wrongly at slot {slot}" in wrong.reason
    assert report.damaged_captures == [CAPTURE]
    assert list(target.iterdir()) == []


def test_a_file_that_is_too_long_or_too_short_is_wrong(repository: Repository, target: Path) -> None:
    index = store(repository, DISK)
    path = target / "disk.raw"
    path.write_bytes(DISK)
    assert compare(repository, index, path).wrong_slots == ()
    for length in (SIZE - 1, SIZE + 1):
        path.write_bytes(DISK)
        os.truncate(path, length)
        assert compare(repository, index, path).wrong_slots == (9,)


def test_room_is_looked_at_before_anything_is_written(
    repository: Repository, manifest: Manifest, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(NoRoomError, match="MiB free"):
        verify_restored(repository, [manifest], ScratchRehearsal(target))
    assert list(target.iterdir()) == []


def test_a_directory_that_is_not_there_is_refused(repository: Repository, manifest: Manifest, target: Path) -> None:
    with pytest.raises(TargetUnfitError, match=f"cannot write to {target / 'missing'}") as caught:
        verify_restored(repository, [manifest], ScratchRehearsal(target / "missing"))
    assert caught.value.hint == "Name another directory with --scratch."


@pytest.mark.case("D2")
def test_where_no_directory_is_named_it_is_the_one_for_temporary_files(
    repository: Repository, manifest: Manifest, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", str(target))
    made: list[Path] = []

    def watched(held: Repository, part: DiskPart, **how: Any) -> RestoredDisk:
        made.append(part.path)
        return restore_disk(held, part, **how)

    monkeypatch.setattr(rehearsal, "restore_disk", watched)
    assert verify_restored(repository, [manifest], ScratchRehearsal()).sound
    assert made
    assert all(path.is_relative_to(target) for path in made)
    assert list(target.iterdir()) == []


def test_scratch_is_taken_away_when_it_fails(
    repository: Repository, manifest: Manifest, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(noise(4).hex())

    monkeypatch.setattr(rehearsal, "compare", fail)
    with pytest.raises(RuntimeError):
        verify_restored(repository, [manifest], ScratchRehearsal(target))
    assert list(target.iterdir()) == []
