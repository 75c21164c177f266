"""Which folders are made durable, and before what: each where a power cut in one narrow place would lose a chunk."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from freezeframe.repository import Repository, verify
from freezeframe.repository.chunk import digest_of_chunk
from freezeframe.repository.garbage import collect
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import condemned_name, folder_of, locate, run_name
from freezeframe.repository.store import DirectoryStore

from .power import Watched
from .samples import CHUNK, capture_id, disk_of, seal, store_disk

DISK = disk_of(b"a", b"b")
CHUNK_NAME = locate(digest_of_chunk(disk_of(b"b")))


def watched(root: Path) -> tuple[Repository, Watched]:
    filesystem = Watched()
    return Repository.open_in(DirectoryStore(root, filesystem)), filesystem


def put_back(root: Path, days: int = 30) -> None:
    """Have all objects be that old."""
    then = time.time() - days * 86400
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def steps_of(filesystem: Watched, root: Path) -> list[tuple[str, str]]:
    return [(step.call, str((step.target or step.path).relative_to(root))) for step in filesystem.log]


def test_an_inherited_chunk_that_another_writer_has_put_again_is_settled_before_the_index(memory_path: Path) -> None:
    """It was set aside as damaged; that writer may die before it settles, and then this index refers to the chunk."""
    root = memory_path / "repository"
    repository = Repository.init(root, chunk_bytes=CHUNK)
    manifest = seal(repository, 1, DISK)
    stored = root / CHUNK_NAME
    stored.write_bytes(bytes(len(stored.read_bytes())))
    assert len(verify(repository, [manifest], set_aside=True).chunks) == 1
    other = repository.disk_writer(len(DISK), CHUNK)
    other.write_chunk(1, DISK[CHUNK:])
    other._queue.flush()  # stored, and its folder not settled
    assert stored.exists()
    mine, filesystem = watched(root)
    parent = manifest.guests[0].disks[0].index
    with mine.disk_writer(len(DISK), CHUNK, parent_index_digest=parent) as writer:
        assert list(writer.slots_to_read_again()) == []
        writer.finish()
    other.abort()
    steps = steps_of(filesystem, root)
    index = next(number for number, (call, path) in enumerate(steps) if call == "rename" and path.startswith("indexes"))
    assert ("fsync_folder", folder_of(CHUNK_NAME)) in steps[:index]


def test_a_condemned_copy_goes_after_the_name_that_another_run_has_given_back_is_durable(memory_path: Path) -> None:
    """Else a power cut could take the unsettled name too, and no copy would be left."""
    root = memory_path / "repository"
    repository = Repository.init(root, chunk_bytes=CHUNK)
    seal(repository, 1, DISK)
    then = datetime.now(UTC) - timedelta(days=30)
    run = RunRecord(run_id=capture_id(8), begun_at=then, finished_at=then)
    Records(repository.objects).put(run)
    second = condemned_name(run.run_id, CHUNK_NAME)
    (root / second).parent.mkdir(parents=True)
    (root / second).write_bytes((root / CHUNK_NAME).read_bytes())
    put_back(root)
    mine, filesystem = watched(root)
    collect(mine, grace=timedelta(0), threads=0)
    steps = steps_of(filesystem, root)
    deleted = steps.index(("unlink", second))
    assert ("fsync_folder", folder_of(CHUNK_NAME)) in steps[:deleted]
    assert (root / CHUNK_NAME).exists()


def test_a_folder_that_a_move_makes_is_itself_durable(memory_path: Path) -> None:
    root = memory_path / "repository"
    repository = Repository.init(root, chunk_bytes=CHUNK)
    store_disk(repository, DISK)
    mine, filesystem = watched(root)
    mine.store.move(CHUNK_NAME, condemned_name(capture_id(8), CHUNK_NAME))
    steps = steps_of(filesystem, root)
    made = [(number, path) for number, (call, path) in enumerate(steps) if call == "make_folder"]
    assert made
    moved = len(steps) - 1 - [call for call, _ in steps][::-1].index("rename")
    for number, path in made:
        assert ("fsync_folder", str(Path(path).parent)) in steps[number:moved]


def test_what_a_run_gives_back_is_durable_before_the_record_of_who_condemned_it_goes(memory_path: Path) -> None:
    """Without the record nobody looks for it where it was condemned."""
    root = memory_path / "repository"
    repository = Repository.init(root, chunk_bytes=CHUNK)
    seal(repository, 1, DISK)
    then = datetime.now(UTC) - timedelta(days=30)
    run = RunRecord(run_id=capture_id(8), begun_at=then, finished_at=then)
    Records(repository.objects).put(run)
    repository.store.move(CHUNK_NAME, condemned_name(run.run_id, CHUNK_NAME))
    put_back(root)
    mine, filesystem = watched(root)
    collect(mine, grace=timedelta(0), threads=0)
    steps = steps_of(filesystem, root)
    restored = steps.index(("rename", CHUNK_NAME))
    forgotten = steps.index(("unlink", run_name(run.run_id)))
    assert ("fsync_folder", folder_of(CHUNK_NAME)) in steps[restored:forgotten]
