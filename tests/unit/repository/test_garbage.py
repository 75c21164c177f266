"""Garbage collection, one at a time: what goes, what stays, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import BinaryIO

import pytest

from freezeframe.repository import Manifest, Repository, Session, verify
from freezeframe.repository.errors import (
    CaptureNotFound,
    ChunkDamaged,
    CollectionOverdue,
    CollectionStopped,
    RepositoryFull,
    RepositoryNotReadable,
    SessionDamaged,
    SessionLost,
)
from freezeframe.repository.garbage import CollectReport, collect, forgotten
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import (
    CHUNKS,
    CONDEMNED,
    INDEXES,
    MANIFESTS,
    condemned_name,
    folder_of,
    run_name,
    session_name,
)
from freezeframe.repository.session import MARGIN, TERM, Sessions, SessionState
from freezeframe.repository.store import MemoryStore

from .locked import locked
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk
from .times import Time

HOUR = timedelta(hours=1)


@pytest.fixture
def repository(time: Time) -> Repository:
    made = Repository.init_in(MemoryStore(time), chunk_bytes=CHUNK)
    return Repository(made.store, made.config, clock=time)


def names(repository: Repository, kind: str) -> list[str]:
    """Of objects under their own names, or in any run."""
    assert isinstance(repository.store, MemoryStore)
    return sorted(name for name in repository.store._objects if name.startswith(f"{kind}/"))


def condemned(repository: Repository) -> list[str]:
    return [name for name in names(repository, CONDEMNED) if folder_of(name) != CONDEMNED]


def run(repository: Repository, time: Time, hours: float = 1, *, dry_run: bool = False) -> CollectReport:
    return collect(repository, grace=timedelta(hours=hours), clock=time, dry_run=dry_run, threads=0)


def test_what_is_forgotten_is_condemned_then_deleted_and_the_rest_reads_back(
    repository: Repository, time: Time
) -> None:
    seal(repository, 1, disk_of(b"a", b"b"))
    seal(repository, 2, disk_of(b"b", b"c"))
    repository.forget(capture_id(1))
    time.pass_(hours=2)
    report = run(repository, time)
    assert (report.condemned.objects, report.deleted.objects, report.chunks_kept) == (2, 0, 2)  # a chunk and an index
    assert len(names(repository, CHUNKS)) == 2
    assert report.free_at is not None
    assert run(repository, time).waiting.objects == 2
    time.now = report.free_at + timedelta(seconds=1)
    report = run(repository, time)
    assert (report.condemned.objects, report.deleted.objects) == (0, 2)
    assert names(repository, CONDEMNED) == []
    assert read_disk(repository, repository.manifest(capture_id(2)).guests[0].disks[0].index) == disk_of(b"b", b"c")


def test_without_grace_all_goes_at_once(repository: Repository, time: Time) -> None:
    seal(repository, 1, disk_of(b"a", b"b"))
    seal(repository, 2, disk_of(b"b"))
    repository.forget(capture_id(1))
    report = run(repository, time, 0)
    assert (report.condemned.objects, report.deleted.objects, report.to_be_freed.objects) == (2, 2, 0)
    assert report.free_at is None
    assert len(names(repository, CHUNKS)) == len(names(repository, INDEXES)) == 1
    assert names(repository, CONDEMNED) == []


def test_an_encrypted_repository_is_collected_too(time: Time) -> None:
    repository = locked(MemoryStore(time))
    repository.sessions = Sessions(repository.objects, time)
    forgotten = seal(repository, 1, disk_of(b"a", b"b")).guests[0].disks[0].index
    kept = seal(repository, 2, disk_of(b"b"))
    time.pass_(hours=2)
    repository.sessions.begin(capture_id(3), "test")
    repository.sessions.end(capture_id(3), sealed=False)
    repository.forget(capture_id(1))
    assert run(repository, time).condemned.objects == 2
    assert read_disk(repository, forgotten) == disk_of(b"a", b"b")  # sealed as it was, wherever it is
    store = repository.store
    assert isinstance(store, MemoryStore)
    assert not any(b"test" in data or b"begun_at" in data for data in store._objects.values())
    time.pass_(days=1)
    assert run(repository, time).deleted.objects == 2
    assert verify(repository, [kept]).sound


def test_a_run_that_stood_still_beyond_its_term_moves_nothing_any_more(
    repository: Repository, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record may be gone, and whatever it moved there would be found by nobody."""
    seal(repository, 1, disk_of(b"a", b"b"))
    repository.forget(capture_id(1))
    time.pass_(hours=2)
    before = names(repository, CHUNKS)
    move = MemoryStore.move

    def stands_still(store: MemoryStore, name: str, to: str, allowed: Callable[[], None]) -> None:
        if name.startswith(CHUNKS):
            time.now += TERM + timedelta(seconds=1)
        move(store, name, to, allowed)

    monkeypatch.setattr(MemoryStore, "move", stands_still)
    with pytest.raises(CollectionOverdue):
        run(repository, time)
    assert names(repository, CHUNKS) == before
    monkeypatch.undo()
    time.pass_(hours=2)
    assert run(repository, time).condemned.objects > 0  # the next one goes on


def test_a_dry_run_changes_nothing_and_says_the_same(repository: Repository, time: Time) -> None:
    seal(repository, 1, disk_of(b"a", b"b"))
    repository.forget(capture_id(1))
    time.pass_(hours=2)
    store = repository.store
    assert isinstance(store, MemoryStore)
    before = dict(store._objects)
    dry = run(repository, time, dry_run=True)
    assert store._objects == before
    wet = run(repository, time)
    assert (dry.condemned, dry.to_be_freed, dry.run_id) == (wet.condemned, wet.to_be_freed, None)
    time.pass_(hours=2)
    before = dict(store._objects)
    dry = run(repository, time, dry_run=True)
    assert store._objects == before
    assert dry.deleted == run(repository, time).deleted != wet.deleted


def test_what_is_young_or_younger_than_a_session_stays(repository: Repository, time: Time) -> None:
    repository.sessions.begin(capture_id(9), "test")
    store_disk(repository, disk_of(b"a", b"b"))
    assert run(repository, time, 0).young.objects == 3
    time.pass_(hours=2)
    report = run(repository, time)
    assert (report.young.objects, report.condemned.objects) == (3, 0)
    assert [one.session_id for one in report.sessions] == [capture_id(9)]
    repository.sessions.end(capture_id(9), sealed=False)
    time.pass_(hours=2)
    assert run(repository, time).condemned.objects == 3


def test_what_a_session_has_seen_is_kept_until_its_manifest_needs_it(repository: Repository, time: Time) -> None:
    """The parent is forgotten while its incremental is under way."""
    parent = seal(repository, 1, disk_of(b"a", b"b")).guests[0].disks[0].index
    time.pass_(hours=5)
    repository.sessions.begin(capture_id(2), "test")
    repository.forget(capture_id(1))
    assert run(repository, time).condemned.objects == 3
    with repository.disk_writer(2 * CHUNK, parent_index_digest=parent) as writer:  # found where it is condemned
        writer.write_chunk(1, disk_of(b"c"))
        index = writer.finish().digest
    for _ in range(3):
        time.pass_(hours=5)
        report = run(repository, time)
        assert (report.deleted.objects, report.hindering) == (0, (capture_id(2),))
    repository.seal(manifest_of(2, disk_capture(index, 2 * CHUNK)))
    assert read_disk(repository, index) == disk_of(b"a", b"c")
    repository.sessions.end(capture_id(2), sealed=True)
    time.pass_(hours=5)
    report = run(repository, time)
    assert (report.restored.objects, report.deleted.objects) == (1, 2)
    assert read_disk(repository, index) == disk_of(b"a", b"c")
    assert condemned(repository) == []


def test_a_writer_does_not_rely_on_what_is_condemned(repository: Repository, time: Time) -> None:
    store_disk(repository, disk_of(b"a"))
    time.pass_(hours=2)
    assert run(repository, time).condemned.objects == 2
    seal(repository, 1, disk_of(b"a"))
    assert len(names(repository, CHUNKS)) == 1
    time.pass_(hours=2)
    assert run(repository, time).deleted.objects == 2  # though a capture refers to both: they are there twice
    assert read_disk(repository, repository.manifest("latest").guests[0].disks[0].index) == disk_of(b"a")


def test_a_run_that_died_is_taken_over(repository: Repository, time: Time) -> None:
    """Nothing is deleted or moved back from where another may still be at work."""
    seal(repository, 1, disk_of(b"a", b"b"))
    (dead, own) = (capture_id(7), names(repository, CHUNKS))
    Records(repository.objects).put(RunRecord(run_id=dead, begun_at=time()))
    for name in own:
        repository.store.move(name, f"{CONDEMNED}/{dead}/{name}")
    time.pass_(hours=2)
    report = run(repository, time)
    assert (report.taken_over.objects, report.restored.objects, report.deleted.objects) == (2, 0, 0)
    assert all(dead not in name for name in condemned(repository))
    time.pass_(hours=2)
    assert run(repository, time).restored.objects == 2
    assert names(repository, CHUNKS) == own
    assert names(repository, CONDEMNED) == [f"{CONDEMNED}/{dead}.json"]  # it may yet move something
    time.pass_(days=8)
    run(repository, time)
    assert names(repository, CONDEMNED) == []


def test_old_temporary_objects_and_sessions_go(repository: Repository, time: Time) -> None:
    store = repository.store
    store.put_many([("tmp/" + "0" * 32, b"cut short")])
    repository.sessions.begin(capture_id(1), "test")
    repository.sessions.begin(capture_id(2), "test")
    repository.sessions.end(capture_id(1), sealed=False)
    time.pass_(hours=2)
    report = run(repository, time)
    assert (report.temporary.objects, report.temporary.bytes, report.sessions_deleted) == (1, 9, 1)
    assert [one.session_id for one in repository.sessions.all()] == [capture_id(2)]
    time.now += TERM
    assert run(repository, time).sessions_deleted == 1
    assert names(repository, "tmp") == names(repository, "sessions") == []


@pytest.fixture
def nothing_changes(repository: Repository, time: Time) -> Iterator[None]:
    """Garbage there is; and the test must not see it touched."""
    seal(repository, 1, disk_of(b"a", b"b"))
    seal(repository, 2, disk_of(b"c"))
    repository.forget(capture_id(2))
    time.pass_(hours=2)
    chunks = names(repository, CHUNKS)
    yield
    assert names(repository, CHUNKS) == chunks
    assert names(repository, CONDEMNED) == []


@pytest.mark.usefixtures("nothing_changes")
def test_damage_stops_it_before_it_has_changed_anything(repository: Repository, time: Time) -> None:
    store = repository.store
    (manifest,) = names(repository, "manifests")
    index = repository.objects.protection.index_name(
        bytes.fromhex(repository.manifest("latest").guests[0].disks[0].index)
    )
    whole = {name: store.get(name) for name in (manifest, index)}
    for name, match in ((manifest, "other bytes than were written"), (index, capture_id(1))):
        store.put_many([(name, b"{}")])
        with pytest.raises(CollectionStopped, match=match):
            run(repository, time)
        store.put_many([(name, whole[name])])
    store.put_many([(session_name(capture_id(5)), b"{}")])
    with pytest.raises(SessionDamaged, match=capture_id(5)):
        run(repository, time)


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("folder", ["sessions", "manifests", "condemned"])
def test_a_listing_that_fails_stops_it(
    repository: Repository, time: Time, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = MemoryStore.names

    def fail(self: MemoryStore, wanted: str) -> Iterator[str]:
        if wanted == folder:
            raise RepositoryNotReadable("no answer")
        return listed(self, wanted)

    monkeypatch.setattr(MemoryStore, "names", fail)
    with pytest.raises(RepositoryNotReadable):
        run(repository, time)
    monkeypatch.undo()


def test_sealing_needs_a_session_with_time_left(repository: Repository, time: Time) -> None:
    disk = disk_capture(store_disk(repository, disk_of(b"a")), CHUNK)
    with pytest.raises(SessionLost, match="gone"):
        repository.seal(manifest_of(1, disk))
    repository.sessions.begin(capture_id(1), "test")
    repository.seal(manifest_of(1, disk))
    repository.seal(manifest_of(1, disk))
    repository.sessions.end(capture_id(1), sealed=True)
    with pytest.raises(SessionLost, match="ended"):
        repository.seal(manifest_of(1, disk))
    repository.sessions.begin(capture_id(2), "test")
    time.now += TERM - MARGIN
    with pytest.raises(SessionLost, match="expires"):
        repository.seal(manifest_of(2, disk))
    assert [one.capture_id for one in repository.manifests()] == [capture_id(1)]


def over(repository: Repository, time: Time, end: str) -> None:
    """Let the session end in that way."""
    time.now += TERM if end == "expired" else timedelta(hours=2)
    if end == "gone":
        repository.sessions.delete(capture_id(1))
    elif end != "expired":
        repository.sessions.end(capture_id(1), sealed=end == "sealed")


@pytest.mark.parametrize(
    ("end", "before", "taken_back"),
    [
        ("expired", True, True),
        ("failed", True, True),
        ("gone", True, True),
        ("failed", False, True),
        ("expired", False, False),  # it was visible in time
        ("gone", False, False),  # as after another has sealed it, some days ago
        ("sealed", False, False),
    ],
)
def test_a_seal_that_came_too_late_is_taken_back_and_no_other(
    repository: Repository, time: Time, monkeypatch: pytest.MonkeyPatch, end: str, *, before: bool, taken_back: bool
) -> None:
    """`before` or after its manifest is visible the sealer stands still, while something happens to the session."""
    disk = disk_capture(store_disk(repository, disk_of(b"a")), CHUNK)
    repository.sessions.begin(capture_id(1), "test")
    write, load = repository._catalog.write, repository.sessions.load

    def meanwhile() -> None:
        over(repository, time, end)
        if taken_back:  # collected, as it may have been
            repository.store.delete(names(repository, CHUNKS)[0])

    def slow_write(manifest: Manifest) -> bool:
        if before:
            meanwhile()
        made = write(manifest)
        if not before:
            looks.append(meanwhile)
        return made

    def slow_load(session_id: str) -> Session:
        if looks:
            looks.pop()()
        return load(session_id)

    looks: list[Callable[[], None]] = []
    monkeypatch.setattr(repository._catalog, "write", slow_write)
    monkeypatch.setattr(repository.sessions, "load", slow_load)
    if taken_back or end == "gone":
        with pytest.raises(SessionLost):
            repository.seal(manifest_of(1, disk))
    else:
        repository.seal(manifest_of(1, disk))
    assert len(repository.manifests()) == int(not taken_back)


def test_who_cannot_look_a_second_time_takes_nothing_back(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have sealed the same meanwhile, and told so."""
    disk = disk_capture(store_disk(repository, disk_of(b"a")), CHUNK)
    repository.sessions.begin(capture_id(1), "test")

    def fail(*_: object, **__: object) -> None:
        raise RepositoryNotReadable("no answer")

    monkeypatch.setattr(repository.sessions, "check_sealed", fail)
    with pytest.raises(RepositoryNotReadable):
        repository.seal(manifest_of(1, disk))
    assert len(repository.manifests()) == 1


def test_a_session_begins_and_ends_once(repository: Repository, time: Time) -> None:
    first = repository.sessions.begin(capture_id(1), "test")
    time.pass_(hours=1)
    assert repository.sessions.begin(capture_id(1), "test") == first
    repository.sessions.end(capture_id(1), sealed=True)
    ended = repository.sessions.load(capture_id(1))
    assert ended.state is SessionState.SEALED
    repository.sessions.end(capture_id(1), sealed=False)
    assert repository.sessions.load(capture_id(1)) == ended
    repository.sessions.end(capture_id(2), sealed=False)
    with repository.session("test") as begun:
        repository.sessions.check(begun)
    assert repository.sessions.load(begun).state is SessionState.FAILED


def test_forgetting_what_is_not_there(repository: Repository) -> None:
    with pytest.raises(CaptureNotFound):
        repository.forget(capture_id(1))


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "as if the other had finished"])
def test_what_another_run_is_about_to_delete_after_a_copy_is_not_lost(
    repository: Repository,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    broken: bool,  # noqa: FBT001
) -> None:
    """In object storage a move is a copy and a delete, and another may collect in between."""
    index = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
    (name,) = names(repository, CHUNKS)
    records = Records(repository.objects)
    records.put(RunRecord(run_id=capture_id(7), begun_at=time()))
    repository.store.put_many([(f"{CONDEMNED}/{capture_id(7)}/{name}", repository.store.get(name))])
    time.pass_(hours=2)
    if broken:
        ends = {"finished_at": time.now - 2 * HOUR}
        monkeypatch.setattr(Records, "all", lambda records: [one.model_copy(update=ends) for one in listed(records)])
    run(repository, time)
    repository.store.delete(name)
    if broken:
        with pytest.raises(ChunkDamaged):
            read_disk(repository, index)
    else:
        assert read_disk(repository, index) == disk_of(b"a")


listed = Records.all


def test_a_reader_finds_what_is_condemned_while_it_lists(repository: Repository, time: Time) -> None:
    manifest = seal(repository, 1, disk_of(b"a", b"b"))
    digest = bytes.fromhex(manifest.guests[0].disks[0].index)
    with repository.index(digest.hex()):
        pass
    records = Records(repository.objects)
    for number in range(2, 5):  # the list of runs that it remembers is older than each of these
        records.put(RunRecord(run_id=capture_id(number), begun_at=time(), finished_at=time()))
        (name,) = [one for one in repository.store._objects if one.endswith(digest.hex())]  # type: ignore[attr-defined]
        repository.store.move(
            name, f"{CONDEMNED}/{capture_id(number)}/{repository.objects.protection.index_name(digest)}"
        )
        with repository.index(digest.hex()):
            pass


def test_any_flipped_bit_of_a_session_or_a_record_is_found(repository: Repository, time: Time) -> None:
    """In a time it could let something go too early."""
    repository.sessions.begin(capture_id(1), "test")
    Records(repository.objects).put(RunRecord(run_id=capture_id(2), begun_at=time(), finished_at=time()))
    for name in (session_name(capture_id(1)), run_name(capture_id(2))):
        whole = repository.store.get(name)
        for at in range(len(whole)):
            flipped = bytearray(whole)
            flipped[at] ^= 1
            repository.store.put_many([(name, flipped)])
            with pytest.raises(SessionDamaged):
                run(repository, time)
        repository.store.put_many([(name, whole)])
    run(repository, time)


def full(*_: object) -> None:
    raise RepositoryFull("The repository is full.")


def room_for_names(store: MemoryStore, name: str, source: BinaryIO) -> None:
    """An empty file takes no block."""
    data = source.read()
    if data:
        full()
    store.put_many([(name, data)])


@pytest.mark.parametrize("put", [full, room_for_names], ids=["not even a name", "names"])
def test_in_a_full_repository_what_is_ripe_is_deleted_all_the_same(
    repository: Repository, time: Time, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None]
) -> None:
    """There is no room for a record, so nothing more can be condemned; what was is what makes room."""
    seal(repository, 1, disk_of(b"a", b"b"))
    repository.forget(capture_id(1))
    time.pass_(hours=2)
    assert run(repository, time).condemned.objects == 3
    store_disk(repository, disk_of(b"c"))
    repository.store.put_many([("tmp/" + "0" * 32, b"cut short")])
    time.pass_(hours=2)
    repository.store.put_many([("tmp/" + "1" * 32, b"the last that had room")])
    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "put", put)
        with pytest.raises(RepositoryFull, match="4 objects were deleted"):
            run(repository, time)
    assert condemned(repository) == []
    assert len(names(repository, CHUNKS)) == 1
    assert run(repository, time).condemned.objects == 2


def test_in_a_repository_without_room_for_a_name_the_hosts_own_clock_is_not_believed(
    repository: Repository, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This host may be 40 days ahead. What the newest object proves is enough; the way out is told."""
    seal(repository, 1, disk_of(b"a"))
    repository.forget(capture_id(1))
    time.pass_(hours=2)
    assert run(repository, time).condemned.objects == 2
    store_disk(repository, disk_of(b"c"))
    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "put", full)
        time.pass_(days=40)
        report = run(repository, time)  # nothing is old enough to be condemned either
        assert (report.deleted.objects, report.waiting.objects) == (0, 2)
        report = collect(repository, grace=timedelta(0), clock=time, dry_run=True)
        assert report.deleted.objects == 2
    assert run(repository, time).deleted.objects == 2


def test_a_forgotten_parent_keeps_what_its_incremental_needs_wherever_that_is(
    repository: Repository, time: Time
) -> None:
    """The parent's chunk was condemned before the parent was sealed, and no run has moved it back since."""
    repository.sessions.begin(capture_id(1), "test")
    parent = store_disk(repository, disk_of(b"a", b"b"))
    time.pass_(days=8)  # its own session does not make it young: so let it be condemned
    assert run(repository, time).condemned.objects == 3
    repository.write_manifest(manifest_of(1, disk_capture(parent, 2 * CHUNK)))
    time.pass_(days=1)
    repository.sessions.begin(capture_id(2), "test")
    with repository.disk_writer(2 * CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(1, disk_of(b"c"))
        repository.forget(capture_id(1))
        assert run(repository, time).deleted.objects == 0  # ripe, and nobody refers to it but who was forgotten
        index = writer.finish().digest
    repository.seal(manifest_of(2, disk_capture(index, 2 * CHUNK)))
    assert read_disk(repository, index) == disk_of(b"a", b"c")
    repository.sessions.end(capture_id(2), sealed=True)
    for _ in range(3):
        time.pass_(hours=5)
        run(repository, time)
    assert read_disk(repository, index) == disk_of(b"a", b"c")
    assert (len(names(repository, CHUNKS)), len(names(repository, INDEXES))) == (2, 1)
    assert names(repository, CONDEMNED) == names(repository, "forgotten") == []


def test_without_a_trace_of_its_forgotten_parent_an_incremental_would_be_lost(
    repository: Repository, time: Time
) -> None:
    """So forgetting is a move, and no deletion."""
    repository.sessions.begin(capture_id(1), "test")
    parent = store_disk(repository, disk_of(b"a", b"b"))
    time.pass_(days=8)
    run(repository, time)
    repository.write_manifest(manifest_of(1, disk_capture(parent, 2 * CHUNK)))
    time.pass_(days=1)
    repository.sessions.begin(capture_id(2), "test")
    with repository.disk_writer(2 * CHUNK, parent_index_digest=parent) as writer:
        writer.write_chunk(1, disk_of(b"c"))
        repository.store.delete(repository.objects.protection.manifest_name(capture_id(1)))
        assert run(repository, time).deleted.objects > 0
        index = writer.finish().digest
    with pytest.raises(ChunkDamaged):
        read_disk(repository, index)


def test_a_forgotten_manifest_that_moves_between_two_looks_stops_every_deletion(
    repository: Repository, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run moves it from one listing to the other: whoever sees neither cannot know what it refers to."""
    seal(repository, 1, disk_of(b"a"))
    seal(repository, 2, disk_of(b"b"))
    repository.forget(capture_id(1))
    time.pass_(hours=2)
    assert run(repository, time).condemned.objects == 2
    time.pass_(days=30)  # what the first run has condemned is ripe
    repository.forget(capture_id(2))
    look = forgotten.list_forgotten
    looks: list[forgotten.Forgotten] = []

    def moving(repository: Repository, records: Records) -> forgotten.Forgotten:
        found = look(repository, records)
        if not looks:
            other = RunRecord(run_id=capture_id(9), begun_at=time())
            records.put(other)
            for entry in found.loose:
                repository.store.move(entry.name, condemned_name(other.run_id, f"{MANIFESTS}/{entry.name[-26:]}"))
        looks.append(found)
        return found

    monkeypatch.setattr(forgotten, "list_forgotten", moving)
    report = run(repository, time)
    assert len(looks) == 2
    assert looks[0].loose
    assert (report.deleted.objects, report.waiting.objects > 0) == (0, True)
    assert len(names(repository, CHUNKS)) + len([name for name in condemned(repository) if CHUNKS in name]) == 2
    assert run(repository, time).deleted.objects == 2  # the chunk and the index of the first
