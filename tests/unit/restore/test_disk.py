"""One disk comes back byte for byte, sparse, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from workers.durable import sync_directory
from workers.restore import partial
from workers.restore.disk import restore_disk
from workers.restore.errors import DiskDamagedError, TargetExistsError, TargetFullError, TargetInUseError
from workers.restore.image import ImageFormat
from workers.restore.partial import PartialFile

from .samples import CHUNK, content, damage, disk_bytes, noise, part_of

BOTH = pytest.mark.parametrize("image_format", list(ImageFormat))
MIB = 1 << 20

DISKS = {
    "one sector": disk_bytes(512, (0, 512)),
    "less than a chunk": disk_bytes(CHUNK - 512, (1024, 100)),
    "whole chunks": disk_bytes(4 * CHUNK, (0, 4 * CHUNK)),
    "a last partial chunk with data": disk_bytes(3 * CHUNK + 1536, (0, 10), (3 * CHUNK + 1000, 536)),
    "a last partial chunk that is a hole": disk_bytes(3 * CHUNK + 1536, (CHUNK, CHUNK)),
    "all holes": disk_bytes(8 * MIB + 512),
    "holes between": disk_bytes(16 * MIB, (0, 1), (5 * MIB + 77, 3 * CHUNK), (16 * MIB - 1, 1)),
}


@BOTH
@pytest.mark.parametrize("disk", DISKS.values(), ids=DISKS.keys())
def test_a_disk_comes_back_byte_for_byte(
    repository: Repository, target: Path, disk: bytes, image_format: ImageFormat
) -> None:
    part = part_of(repository, disk, target / "alpha-vda", image_format)
    done = restore_disk(repository, part)
    assert content(part.path, image_format) == disk
    assert done.size_bytes == len(disk)
    assert done.bytes_written <= done.data_bytes <= len(disk)
    assert [path.name for path in target.iterdir()] == ["alpha-vda"]


def test_a_size_that_is_no_multiple_of_a_sector_is_exact_in_raw(repository: Repository, target: Path) -> None:
    disk = noise(CHUNK + 333)
    part = part_of(repository, disk, target / "disk", ImageFormat.RAW)
    restore_disk(repository, part)
    assert part.path.read_bytes() == disk


@BOTH
def test_holes_stay_holes_within_chunks_too(repository: Repository, target: Path, image_format: ImageFormat) -> None:
    disk = disk_bytes(64 * MIB, (0, 4096), (10 * CHUNK, 4096), (32 * MIB, CHUNK))
    part = part_of(repository, disk, target / "disk", image_format)
    done = restore_disk(repository, part)
    assert done.bytes_written == CHUNK + 2 * (64 << 10)
    assert part.path.stat().st_blocks * 512 < 2 * MIB


@BOTH
def test_odd_names_are_names_and_nothing_else(
    repository: Repository, target: Path, monkeypatch: pytest.MonkeyPatch, image_format: ImageFormat
) -> None:
    monkeypatch.chdir(target)
    for name in ("nbd:unix:x", 'json:{"driver":"null-co"}', "-f", "a,b=c d", "ümlaut"):
        part = part_of(repository, DISKS["whole chunks"], Path(name), image_format)
        restore_disk(repository, part)
        assert content((target / name).absolute(), image_format) == DISKS["whole chunks"]


@BOTH
def test_a_file_that_exists_is_refused_and_untouched(
    repository: Repository, target: Path, image_format: ImageFormat
) -> None:
    part = part_of(repository, DISKS["whole chunks"], target / "disk", image_format)
    part.path.write_text("precious")
    with pytest.raises(TargetExistsError, match=str(part.path)):
        restore_disk(repository, part)
    assert part.path.read_text() == "precious"
    assert list(target.iterdir()) == [part.path]


@BOTH
def test_overwrite_replaces_it(repository: Repository, target: Path, image_format: ImageFormat) -> None:
    part = part_of(repository, DISKS["whole chunks"], target / "disk", image_format)
    part.path.write_text("replaceable")
    restore_disk(repository, part, overwrite=True)
    assert content(part.path, image_format) == DISKS["whole chunks"]


def test_overwrite_refuses_what_is_no_plain_file(repository: Repository, target: Path) -> None:
    precious = target / "precious"
    precious.write_text("precious")
    part = part_of(repository, DISKS["whole chunks"], target / "disk", ImageFormat.RAW)
    part.path.symlink_to(precious)
    with pytest.raises(TargetExistsError):
        restore_disk(repository, part, overwrite=True)
    assert precious.read_text() == "precious"


@BOTH
def test_a_damaged_chunk_leaves_no_file_and_names_the_disk(
    repository: Repository, root: Path, target: Path, image_format: ImageFormat
) -> None:
    part = part_of(repository, noise(20 * CHUNK), target / "disk", image_format)
    damage(repository, root, part.index, 15)
    with pytest.raises(DiskDamagedError, match=f"disk vda of guest alpha in capture {part.capture_id}") as caught:
        restore_disk(repository, part)
    assert f"freezeframe verify {part.capture_id}" in caught.value.hint
    assert list(target.iterdir()) == []


def test_a_damaged_chunk_leaves_what_was_to_be_overwritten(repository: Repository, root: Path, target: Path) -> None:
    part = part_of(repository, noise(20 * CHUNK), target / "disk", ImageFormat.RAW)
    part.path.write_text("precious")
    damage(repository, root, part.index, 15)
    with pytest.raises(DiskDamagedError):
        restore_disk(repository, part, overwrite=True)
    assert part.path.read_text() == "precious"


def test_a_failure_of_a_write_removes_the_partial_file(
    repository: Repository, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pwrite = os.pwrite

    def full(fd: int, data: memoryview, offset: int) -> int:
        if offset >= 2 * CHUNK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_pwrite(fd, data, offset)

    part = part_of(repository, DISKS["whole chunks"], target / "disk", ImageFormat.RAW)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TargetFullError, match=str(part.path)):
        restore_disk(repository, part)
    assert list(target.iterdir()) == []


@BOTH
def test_progress_grows_to_the_whole(repository: Repository, target: Path, image_format: ImageFormat) -> None:
    told: list[tuple[int, int]] = []
    part = part_of(repository, DISKS["holes between"], target / "disk", image_format)
    done = restore_disk(repository, part, on_progress=lambda *now: told.append(now))
    assert told[0] == (0, done.data_bytes)
    assert told[-1] == (done.data_bytes, done.data_bytes)
    assert told == sorted(told)


@BOTH
def test_an_error_of_the_callback_ends_the_restore(
    repository: Repository, target: Path, image_format: ImageFormat
) -> None:
    def interrupted(done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    part = part_of(repository, DISKS["whole chunks"], target / "disk", image_format)
    with pytest.raises(KeyboardInterrupt):
        restore_disk(repository, part, on_progress=interrupted)
    assert list(target.iterdir()) == []


def test_two_restores_to_one_file_do_not_mix(repository: Repository, target: Path) -> None:
    part = part_of(repository, DISKS["whole chunks"], target / "disk", ImageFormat.RAW)
    with PartialFile(part.path, overwrite=False), pytest.raises(TargetInUseError):
        restore_disk(repository, part)


def test_a_partial_file_that_another_restore_replaced_is_left_to_it(target: Path) -> None:
    with PartialFile(target / "disk", overwrite=False) as file:
        file.path.unlink()
        file.path.write_text("theirs")
        with pytest.raises(TargetInUseError):
            file.commit()
    assert file.path.read_text() == "theirs"
    assert not file.final.exists()


def test_a_name_taken_meanwhile_is_left_to_its_owner(target: Path) -> None:
    with PartialFile(target / "disk", overwrite=False) as file:
        file.final.write_text("theirs")
        with pytest.raises(TargetExistsError):
            file.commit()
    assert file.final.read_text() == "theirs"
    assert not file.path.exists()


def test_it_is_durable_before_it_has_its_name(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        told.append(f"fsync, named: {(target / 'disk').exists()}")
        real_fsync(fd)

    def sync(path: Path) -> None:
        told.append(f"directory, named: {(target / 'disk').exists()}")
        sync_directory(path)

    with PartialFile(target / "disk", overwrite=False) as file:
        monkeypatch.setattr(partial, "sync_directory", sync)
        monkeypatch.setattr(os, "fsync", fsync)
        file.commit()
    assert told == ["fsync, named: False", "directory, named: True", "fsync, named: True"]
