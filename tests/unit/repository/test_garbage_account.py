"""What garbage collection says, makes durable and keeps open, and how it reckons the time that goes by."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from freezeframe.repository import Repository, marks
from freezeframe.repository.errors import (
    CollectionOverdue,
    CollectionStopped,
    ObjectNotFound,
    RepositoryFull,
    SessionDamaged,
)
from freezeframe.repository.garbage import Progress, collect, collection
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import CHUNKS, CONDEMNED, TMP, condemned_name, forgotten_name, run_id_of, run_name
from freezeframe.repository.marks import Marks
from freezeframe.repository.session import TERM
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import always

from .meanwhile import Meanwhile, run
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, random_disk, seal, store_disk
from .times import Time

GRACE = timedelta(hours=1)


def records(store: MemoryStore) -> list[str]:
    return [name for name in store.names(CONDEMNED) if run_id_of(name)]


# what is said


def test_what_two_passes_did_is_told_together(collected: Repository, store: Meanwhile, time: Time) -> None:
    """Without any grace what the first has condemned the second deletes."""
    seal(collected, 1, disk_of(b"a"))
    seal(collected, 2, disk_of(b"b"))
    collected.sessions.begin(capture_id(3), "test")
    collected.sessions.end(capture_id(3), sealed=False)
    collected.forget(capture_id(1))
    store.put_many([(f"{TMP}/{'0' * 32}", b"nine byte")])
    garbage = {name for name in store._objects if name.startswith((CHUNKS, "indexes"))}
    time.pass_(hours=1)
    report = collect(collected, grace=timedelta(0), clock=time, threads=0)
    gone = {name for name in garbage if name not in store._objects}
    assert len(gone) == 2
    assert (report.condemned.objects, report.deleted.objects) == (2, 2)
    assert report.condemned.bytes == report.deleted.bytes > 0
    assert (report.temporary.objects, report.temporary.bytes, report.sessions_deleted) == (1, 9, 1)
    assert (report.captures, report.chunks_kept) == (1, 1)
    assert report.run_id is not None


def test_the_run_is_named_under_which_something_was_condemned(
    collected: Repository, store: Meanwhile, time: Time
) -> None:
    seal(collected, 1, disk_of(b"a"))
    assert run(collected, time).run_id is None
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    report = run(collected, time)
    assert [run_name(report.run_id or "")] == records(store)
    assert report.captures == 0


def test_it_is_said_when_what_waits_is_ripe_however_often_it_is_asked(collected: Repository, time: Time) -> None:
    seal(collected, 1, disk_of(b"a"))
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    first = run(collected, time)
    time.pass_(minutes=20)
    assert run(collected, time).free_at == first.free_at


@pytest.mark.parametrize("freed", [False, True])
def test_a_full_repository_is_to_be_collected_again_if_that_helps(
    collected: Repository,
    store: Meanwhile,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    freed: bool,  # noqa: FBT001
) -> None:
    store_disk(collected, disk_of(b"a"))
    if freed:
        store.put_many([(f"{TMP}/{'0' * 32}", b"cut short")])
    time.pass_(hours=2)
    store.put_many([(f"{TMP}/{'1' * 32}", b"the last that had room")])

    def full(*_: object) -> None:
        raise RepositoryFull("The repository is full.")

    monkeypatch.setattr(MemoryStore, "put", full)
    with pytest.raises(RepositoryFull, match=f"{int(freed)} objects were deleted") as caught:
        run(collected, time)
    assert ("Collect again" in caught.value.hint) == freed
    assert ("--nobody-else-writes" in caught.value.hint) != freed


@pytest.mark.parametrize(("damaged", "more"), [(1, ""), (2, "1 others"), (3, "2 others")])
def test_all_manifests_that_stop_it_are_counted(
    collected: Repository, store: Meanwhile, time: Time, damaged: int, more: str
) -> None:
    for number in range(1, 5):
        name = collected.objects.protection.manifest_name(seal(collected, number, disk_of(b"a")).capture_id)
        if number <= damaged:
            store.put_many([(name, b"{}")])
    with pytest.raises(CollectionStopped) as caught:
        run(collected, time)
    assert (f" {more} cannot be read either." in caught.value.message) == bool(more)
    assert ("others" in caught.value.message) == bool(more)


def test_an_index_of_several_captures_is_read_once(collected: Repository, time: Time) -> None:
    for number in (1, 2, 3):
        seal(collected, number, disk_of(b"a"))
    told: list[Progress] = []
    run(collected, time, told.append)
    assert [one for one in told if one.phase == "reading indexes"] == [Progress("reading indexes", 1, 1)]


def test_of_captures_of_one_disk_only_what_differs_is_marked(
    collected: Repository, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a hundred captures of a TiB would be a hundred times its slots."""
    disk = random_disk(1024)
    parent = seal(collected, 1, disk).guests[0].disks[0].index
    changed = disk[: 700 * CHUNK] + disk_of(b"new") + disk[701 * CHUNK :]
    index = store_disk(collected, changed, parent=parent)
    collected.write_manifest(manifest_of(2, disk_capture(index, len(changed))))
    marked: list[int] = []
    add = Marks.add

    def counted(made: Marks, digests: Sequence[bytes]) -> None:
        marked.append(len(digests))
        add(made, digests)

    monkeypatch.setattr(Marks, "add", counted)
    report = run(collected, time)
    assert report.chunks_kept == 1025
    assert sum(marked) == 1024 + 1 + 2  # a table, what differs, and two indexes


# what is made durable, and what is taken over


def test_what_is_condemned_and_what_is_restored_is_durable(collected: Repository, store: Meanwhile, time: Time) -> None:
    seal(collected, 1, disk_of(b"a"))
    (chunk,) = [name for name in store._objects if name.startswith(CHUNKS)]
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    report = run(collected, time)
    assert f"{CONDEMNED}/{report.run_id}/{chunk.rpartition('/')[0]}" in store.settled
    assert f"{CONDEMNED}/{report.run_id}/manifests" in store.settled
    store.settled.clear()
    index = store_disk(collected, disk_of(b"x"))  # as if the writer had looked before it was condemned
    collected.write_manifest(manifest_of(2, disk_capture(index, CHUNK)))
    own = RunRecord(run_id=capture_id(6), begun_at=time(), finished_at=time())
    Records(collected.objects).put(own)
    (needed,) = [name for name in store._objects if name.startswith(CHUNKS)]
    store.move(needed, condemned_name(own.run_id, needed))
    assert run(collected, time).restored.objects == 1
    assert needed.rpartition("/")[0] in store.settled


def test_a_dry_run_asks_for_nothing_durable(collected: Repository, store: Meanwhile, time: Time) -> None:
    seal(collected, 1, disk_of(b"a"))
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    store.settled.clear()
    assert collect(collected, grace=GRACE, clock=time, dry_run=True, threads=0).condemned.objects == 2
    assert store.settled == []


def test_what_another_run_was_faster_with_is_not_counted_and_its_folder_not_asked_for(
    collected: Repository, store: Meanwhile, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory the own run's folder is not there then, and to settle it would be an error."""
    store_disk(collected, disk_of(b"a"))
    time.pass_(hours=2)
    store.settled.clear()

    def gone(_: MemoryStore, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        raise ObjectNotFound(f"{name} is not there.")

    monkeypatch.setattr(MemoryStore, "move", gone)
    report = run(collected, time)
    assert (report.condemned.objects, report.to_be_freed.objects) == (0, 0)
    assert store.settled == []


def test_the_forgotten_manifest_of_a_run_that_died_is_taken_over_and_goes_in_its_turn(
    collected: Repository, store: Meanwhile, time: Time
) -> None:
    manifest = collected.objects.protection.manifest_name(seal(collected, 1, disk_of(b"a")).capture_id)
    collected.forget(capture_id(1))
    dead = RunRecord(run_id=capture_id(7), begun_at=time())
    Records(collected.objects).put(dead)
    store.move(forgotten_name(manifest), condemned_name(dead.run_id, manifest))
    time.pass_(hours=2)
    report = run(collected, time)
    assert not store.exists(condemned_name(dead.run_id, manifest))
    assert store.exists(condemned_name(report.run_id or "", manifest))
    time.pass_(days=10)
    run(collected, time)
    assert not [name for name in store._objects if name.startswith((CHUNKS, CONDEMNED))]


def test_a_record_stays_while_a_forgotten_manifest_waits_in_its_run(
    collected: Repository, store: Meanwhile, time: Time
) -> None:
    """Without the record nobody would find the manifest, nor what an incremental may have been begun upon."""
    for number in (1, 2):
        seal(collected, number, disk_of(b"a"))
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    assert run(collected, time).condemned.objects == 0
    collected.sessions.begin(capture_id(3), "test")
    for _ in range(2):
        before = records(store)
        assert len(before) == 1
        run(collected, time)
        assert records(store) == before


def test_a_record_under_the_name_of_another_run_stops_it(collected: Repository, store: Meanwhile, time: Time) -> None:
    """What is in that run would be judged by the times of another."""
    Records(collected.objects).put(RunRecord(run_id=capture_id(7), begun_at=time(), finished_at=time()))
    store.put_many([(run_name(capture_id(8)), store.get(run_name(capture_id(7))))])
    with pytest.raises(SessionDamaged, match=f"another run, {capture_id(7)}"):
        run(collected, time)


# files and threads


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every temporary file of marks, which are spilled at once."""
    monkeypatch.setattr(marks, "_BLOCK_BYTES", 32)
    files: list[Any] = []
    make = tempfile.TemporaryFile

    def made(**wishes: Any) -> Any:
        files.append(make(**wishes))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", made)
    return files


@pytest.mark.parametrize("stopped", [False, True])
def test_no_temporary_file_stays_open(
    collected: Repository,
    store: Meanwhile,
    time: Time,
    opened: list[Any],
    stopped: bool,  # noqa: FBT001
) -> None:
    seal(collected, 1, random_disk(5))
    broken = seal(collected, 2, random_disk(5)).guests[0].disks[0].index
    if stopped:
        store.put_many([(collected.objects.protection.index_name(bytes.fromhex(broken)), b"damaged")])
        opened.clear()
        with pytest.raises(CollectionStopped):
            run(collected, time)
    else:
        opened.clear()
        run(collected, time)
    assert opened
    assert all(file.closed for file in opened)


@pytest.mark.parametrize(("objects", "threads", "others"), [(8, 4, True), (4, 4, True), (3, 4, False), (8, 0, False)])
def test_moves_are_made_by_several_threads_if_there_are_enough(
    collected: Repository,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    objects: int,
    threads: int,
    others: bool,  # noqa: FBT001
) -> None:
    """None is left behind when it is over."""
    made: set[str] = set()
    move = MemoryStore.move

    def watched(self: MemoryStore, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        made.add(threading.current_thread().name)
        move(self, name, to, allowed)

    monkeypatch.setattr(MemoryStore, "move", watched)
    names = [f"{CHUNKS}/ab/ab{number:062x}" for number in range(objects)]
    collected.store.put_many([(name, b"nobody's") for name in names])
    time.pass_(hours=2)
    report = collect(collected, grace=GRACE, clock=time, threads=threads)
    assert report.condemned.objects == objects
    assert (made != {threading.current_thread().name}) == others
    assert not [one for one in threading.enumerate() if one.name.startswith("collect")]


# moments


class Ticks:
    """A monotonic clock of a machine that has been up for long."""

    def __init__(self) -> None:
        self.now = 1e9

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("stands_still", "overdue"), [(timedelta(0), False), (TERM + timedelta(seconds=1), True)])
def test_a_run_is_overdue_by_the_time_that_has_gone_by_and_not_by_the_clock_alone(
    collected: Repository,
    store: Meanwhile,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    stands_still: timedelta,
    overdue: bool,  # noqa: FBT001
) -> None:
    """A clock that was set back meanwhile hides days."""
    ticks = Ticks()
    monkeypatch.setattr(collection, "time", ticks)
    store_disk(collected, disk_of(b"a"))
    time.pass_(hours=2)

    def stand() -> None:
        ticks.now += stands_still.total_seconds()

    store.before["chunks/00"] = stand
    if overdue:
        with pytest.raises(CollectionOverdue):
            run(collected, time)
    else:
        assert run(collected, time).condemned.objects == 2
