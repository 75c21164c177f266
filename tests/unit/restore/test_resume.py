"""An interrupted restore is gone on with, and what comes of it is the captured disk, whatever happened in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from freezeframe.repository import Repository
from workers.restore.disk import DiskPart, restore_disk
from workers.restore.errors import DiskDamagedError
from workers.restore.image import ImageFormat
from workers.restore.report import RestoredDisk

from .dying import interrupted, killed_at
from .samples import CHUNK, content, damage, disk_bytes, noise, part_of

BOTH = pytest.mark.parametrize("image_format", list(ImageFormat))

#: A mark every so often here, so that small disks have some.
EVERY = 3 * CHUNK
#: Chunks, holes, a chunk with a hole in it, and an odd end.
DISK = disk_bytes(
    30 * CHUNK + 1536, (0, 7 * CHUNK), (9 * CHUNK + 70_000, 5 * CHUNK), (16 * CHUNK, 9 * CHUNK), (30 * CHUNK, 600)
)
#: More steps than a restore of it takes.
STEPS = 400


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One for all: a repository is not changed by a restore, and its folders are many."""
    return Repository.init(tmp_path_factory.mktemp("all") / "repository", chunk_bytes=CHUNK)


def restore(repository: Repository, part: DiskPart, *, trust: bool = False) -> RestoredDisk:
    return restore_disk(repository, part, trust=trust, mark_bytes=EVERY)


def partial_of(part: DiskPart) -> Path:
    return part.path.with_name(part.path.name + ".partial")


def mark_of(part: DiskPart) -> int:
    return part.progress.seen(part.index)


def interrupt(repository: Repository, part: DiskPart) -> int:
    mark = interrupted(repository, part, EVERY)
    assert partial_of(part).exists()
    return mark


def as_it_was(_path: Path, _mark: int, _chance: Random) -> None:
    """A process that is killed takes nothing back that it has written."""


def torn(path: Path, mark: int, chance: Random) -> None:
    """A power cut may leave anything of what was not synced: above the mark all of it. The file's raw layout is assumed."""
    with path.open("r+b") as file:
        for offset in range(mark, path.stat().st_size, 4096):
            if chance.random() < 0.5:
                file.seek(offset)
                file.write(chance.randbytes(min(4096, path.stat().st_size - offset)))


@pytest.mark.parametrize(
    ("image_format", "harm", "first"),
    [(ImageFormat.RAW, as_it_was, 0), (ImageFormat.RAW, torn, 1), (ImageFormat.QCOW2, as_it_was, 2)],
)
def test_killed_at_any_step_it_goes_on_to_the_very_disk(
    repository: Repository,
    target: Path,
    image_format: ImageFormat,
    harm: Callable[[Path, int, Random], None],
    first: int,
) -> None:
    part = part_of(repository, DISK, target / "disk", image_format)
    resumed = 0
    for step in range(first, STEPS, 3):  # together every step; which of the threads comes to it is chance anyway
        lived = killed_at(step, lambda: restore(repository, part))
        if lived:
            assert resumed  # the marks were of use
            return
        if part.path.exists():  # it had its name already, and then it is whole
            assert content(part.path, image_format) == DISK
        else:
            if partial_of(part).exists():
                harm(partial_of(part), mark_of(part), Random(step))  # noqa: S311  the same harm each time
            done = restore(repository, part)
            resumed += done.resumed_bytes > 0
            assert done.bytes_kept <= done.resumed_bytes
            assert content(part.path, image_format) == DISK
            assert {path.name for path in target.iterdir()} == {"disk"}
        for path in target.iterdir():
            path.unlink()
    pytest.fail("no restore came to its end")


@BOTH
def test_killed_again_and_again_it_comes_to_an_end(
    repository: Repository, target: Path, image_format: ImageFormat
) -> None:
    part = part_of(repository, DISK, target / "disk", image_format)
    for step in range(12, STEPS, 2):
        if killed_at(step, lambda: restore(repository, part)) or part.path.exists():
            break
    restore_disk(repository, part, overwrite=True)
    assert content(part.path, image_format) == DISK
    assert {path.name for path in target.iterdir()} == {"disk"}


@BOTH
def test_what_was_durable_is_kept(repository: Repository, target: Path, image_format: ImageFormat) -> None:
    part = part_of(repository, DISK, target / "disk", image_format)
    mark = interrupt(repository, part)
    done = restore(repository, part)
    assert done.resumed_bytes == mark
    assert done.bytes_kept >= EVERY
    assert done.bytes_kept + done.bytes_written <= done.data_bytes
    assert content(part.path, image_format) == DISK


@BOTH
@pytest.mark.parametrize("place", range(3))
def test_what_was_changed_below_the_mark_is_written_anew(
    repository: Repository, target: Path, image_format: ImageFormat, place: int
) -> None:
    part = part_of(repository, noise(30 * CHUNK), target / "disk", image_format)
    mark = interrupt(repository, part)
    file_bytes = partial_of(part).stat().st_size
    data_from = file_bytes - 30 * CHUNK
    with partial_of(part).open("r+b") as file:
        file.seek(data_from + (0, mark // 2, mark - 1)[place])
        file.write(b"?")
    restore(repository, part)
    assert content(part.path, image_format) == noise(30 * CHUNK)


def test_data_in_a_hole_below_the_mark_is_taken_away(repository: Repository, target: Path) -> None:
    disk = disk_bytes(30 * CHUNK, (0, CHUNK), (2 * CHUNK, 20 * CHUNK))
    part = part_of(repository, disk, target / "disk", ImageFormat.RAW)
    assert interrupt(repository, part) > 2 * CHUNK
    with partial_of(part).open("r+b") as file:
        file.seek(CHUNK + 5)
        file.write(b"not the guest's")
    restore(repository, part)
    assert part.path.read_bytes() == disk


def test_trust_keeps_it_unread(repository: Repository, target: Path) -> None:
    part = part_of(repository, noise(30 * CHUNK), target / "disk", ImageFormat.RAW)
    interrupt(repository, part)
    with partial_of(part).open("r+b") as file:
        file.write(b"?")
    restore(repository, part, trust=True)
    assert part.path.read_bytes() == b"?" + noise(30 * CHUNK)[1:]


@BOTH
def test_trusted_it_is_exact_too(repository: Repository, target: Path, image_format: ImageFormat) -> None:
    part = part_of(repository, DISK, target / "disk", image_format)
    interrupt(repository, part)
    assert restore(repository, part, trust=True).bytes_kept >= EVERY
    assert content(part.path, image_format) == DISK


def other_capture(repository: Repository, part: DiskPart) -> DiskPart:
    return part_of(repository, noise(len(DISK), seed=9), part.path, part.format)


def other_format(_repository: Repository, part: DiskPart) -> DiskPart:
    changed = ImageFormat.QCOW2 if part.format is ImageFormat.RAW else ImageFormat.RAW
    return DiskPart(part.capture_id, part.guest_name, part.target, part.index, part.path, changed)


@BOTH
@pytest.mark.parametrize("other", [other_capture, other_format])
def test_the_partial_file_of_another_is_not_taken_over(
    repository: Repository,
    target: Path,
    image_format: ImageFormat,
    other: Callable[[Repository, DiskPart], DiskPart],
) -> None:
    part = part_of(repository, DISK, target / "disk", image_format)
    interrupt(repository, part)
    wanted = other(repository, part)
    # with trust, so that nothing but the progress decides
    assert restore(repository, wanted, trust=True).resumed_bytes == 0
    with repository.disk_reader(wanted.index) as reader:
        whole = b"".join(extent.data or bytes(extent.length) for extent in reader)
    assert content(wanted.path, wanted.format) == whole
    assert {path.name for path in target.iterdir()} == {"disk"}


def test_another_file_of_that_name_is_not_taken_over(repository: Repository, target: Path) -> None:
    part = part_of(repository, DISK, target / "disk", ImageFormat.RAW)
    interrupt(repository, part)
    shutil.copy(partial_of(part), target / "copy")
    (target / "copy").rename(partial_of(part))
    assert restore(repository, part, trust=True).resumed_bytes == 0
    assert part.path.read_bytes() == DISK


def test_a_second_name_of_a_whole_file_is_not_written_to(repository: Repository, target: Path) -> None:
    """What a crash between the link and the unlink leaves: going on with it would cut the whole file short."""
    part = part_of(repository, DISK, target / "disk", ImageFormat.RAW)
    interrupt(repository, part)
    (target / "whole").hardlink_to(partial_of(part))
    before = (target / "whole").read_bytes()
    assert restore(repository, part, trust=True).resumed_bytes == 0
    assert (target / "whole").read_bytes() == before


@pytest.mark.parametrize("text", ["", '{"format": 2}', "[" * 100_000])
def test_progress_that_cannot_be_read_is_none(repository: Repository, target: Path, text: str) -> None:
    part = part_of(repository, DISK, target / "disk", ImageFormat.RAW)
    interrupt(repository, part)
    part.progress.path.write_text(text)
    assert restore(repository, part).resumed_bytes == 0
    assert part.path.read_bytes() == DISK


def test_progress_beyond_the_disk_is_none(repository: Repository, target: Path) -> None:
    part = part_of(repository, DISK, target / "disk", ImageFormat.RAW)
    interrupt(repository, part)
    document = json.loads(part.progress.path.read_text())
    part.progress.path.write_text(json.dumps({**document, "mark_bytes": len(DISK) + 1}))
    assert restore(repository, part).resumed_bytes == 0


@BOTH
def test_damage_leaves_nothing_even_with_a_mark(root: Path, target: Path, image_format: ImageFormat) -> None:
    repository = Repository.init(root, chunk_bytes=CHUNK)
    part = part_of(repository, noise(30 * CHUNK), target / "disk", image_format)
    damage(repository, root, part.index, 29)
    with pytest.raises(DiskDamagedError):
        restore(repository, part)
    assert list(target.iterdir()) == []
