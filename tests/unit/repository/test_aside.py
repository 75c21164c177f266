"""Setting aside and its way back: a damaged chunk is out of writers' sight, and nothing that is sound is lost by it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.repository import Repository, Tier, aside, verify
from freezeframe.repository.aside import Kind, Verdict, list_aside, set_aside
from freezeframe.repository.errors import RepositoryNotReadable, RepositoryNotWritable
from freezeframe.repository.layout import DAMAGED, damaged_document, damaged_name, locate
from freezeframe.repository.objects import Objects
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import always

from .locked import PROTECTIONS, protected
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk

DISK = disk_of(b"a", b"b")


class Flaky(MemoryStore):
    """Gives wrong bytes, or an error, the first `times` times that one object is read."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)  # that has passed since it was made
        super().__init__(lambda: datetime.now(UTC) + self.ahead)
        self.name = ""
        self.times = 0
        self.error: Exception | None = None
        self.dropped: list[str] = []
        self.read_only = False

    def get(self, name: str) -> bytes:
        data = super().get(name)
        if self.name and name.endswith(self.name.rpartition("/")[2]) and self.times > 0:
            self.times -= 1
            if self.error is not None:
                raise RepositoryNotReadable(f"Reading {name} failed.") from self.error
            return data[:-1]
        return data

    def drop_cached(self, name: str) -> None:
        self.dropped.append(name)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        if self.read_only:
            raise RepositoryNotWritable("It is mounted read-only.")
        times, self.times = self.times, 0  # a rename reads nothing
        super().move(name, to, allowed)
        self.times = times


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    """In memory, either way."""
    store = Flaky()
    return protected(request.param, store)


def flaky(repository: Repository) -> Flaky:
    assert isinstance(repository.store, Flaky)
    return repository.store


def pass_(repository: Repository, **amount: float) -> None:
    """Let time pass, for the store and for this host."""
    store = flaky(repository)
    store.ahead += timedelta(**amount)
    repository.sessions.clock = lambda: datetime.now(UTC) + store.ahead


def first_chunk(repository: Repository, index: str) -> bytes:
    with repository.index(index) as opened:
        return next(digest for _, digest in opened.used_slots())


def spoil(repository: Repository, name: str) -> None:
    """Flip a bit in the stored bytes."""
    store = flaky(repository)
    data = bytearray(store._objects[name])
    data[-1] ^= 1
    store._objects[name] = bytes(data)


def spoilt(repository: Repository) -> str:
    """A sealed capture of DISK with one damaged chunk; the name of its object."""
    manifest = seal(repository, 1, DISK)
    name = repository.objects.protection.locate(first_chunk(repository, manifest.guests[0].disks[0].index))
    spoil(repository, name)
    return name


def aside_names(repository: Repository) -> list[str]:
    return sorted(repository.store.names(DAMAGED))


def test_a_damaged_chunk_is_set_aside_and_written_anew_by_the_next_capture(held: Repository) -> None:
    name = spoilt(held)
    report = verify(held, held.manifests(), set_aside=True)
    assert [one.set_aside for one in report.chunks] == [True]
    assert not held.store.exists(name)
    assert aside_names(held) == sorted([damaged_name(name), damaged_document(name)])
    seal(held, 2, DISK)
    assert held.store.exists(name)
    assert read_disk(held, held.manifest(capture_id(1)).guests[0].disks[0].index) == DISK


def test_what_was_repaired_is_cleared_and_its_captures_are_told_as_whole(held: Repository) -> None:
    spoilt(held)
    damaged = verify(held, held.manifests(), set_aside=True)
    seal(held, 2, DISK)
    report = verify(held, held.manifests(), set_aside=True)
    assert report.sound
    assert report.repaired == (damaged.chunks[0].digest,)
    assert report.whole_again == (capture_id(2), capture_id(1))
    assert aside_names(held) == []
    assert verify(held, held.manifests(), set_aside=True).repaired == ()


def test_a_capture_with_other_damage_is_not_told_as_whole(held: Repository) -> None:
    spoilt(held)
    verify(held, held.manifests(), set_aside=True)
    seal(held, 2, disk_of(b"a"))
    seal(held, 3, DISK[: 2 * CHUNK])
    index = held.manifest(capture_id(1)).guests[0].disks[0].index
    with held.index(index) as opened:
        held.store.delete(held.objects.protection.locate(opened.digest_at(1) or b""))
    report = verify(held, held.manifests(), set_aside=True)
    assert report.damaged_captures == [capture_id(3), capture_id(1)]
    assert report.whole_again == (capture_id(2),)


def test_what_is_set_aside_stays_damage_and_says_why_until_it_is_repaired(held: Repository) -> None:
    spoilt(held)
    verify(held, held.manifests(), set_aside=True)
    for tier in (Tier.PRESENT, Tier.REHASHED):
        (damage,) = verify(held, held.manifests(), tier, set_aside=True).chunks
        assert damage.set_aside
        assert "was set aside at" in damage.reason
        assert [place.capture_id for place in damage.places] == [capture_id(1)]


def test_only_looking_changes_nothing(held: Repository) -> None:
    name = spoilt(held)
    before = dict(flaky(held)._objects)
    (damage,) = verify(held, held.manifests()).chunks
    assert not damage.set_aside
    assert flaky(held)._objects == before
    assert held.store.exists(name)


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "Input/output error")])
def test_a_bad_read_is_no_bad_chunk(held: Repository, error: OSError | None) -> None:
    manifest = seal(held, 1, DISK)
    store = flaky(held)
    store.name = held.objects.protection.locate(first_chunk(held, manifest.guests[0].disks[0].index))
    store.times, store.error = 1, error
    report = verify(held, [manifest], set_aside=True)
    assert report.sound
    assert report.bad_reads == 1
    assert store.dropped == [store.name]  # the second look must not be answered from a cache
    assert held.store.exists(store.name)


def test_a_medium_that_fails_for_good_is_damage_of_the_object(held: Repository) -> None:
    manifest = seal(held, 1, DISK)
    store = flaky(held)
    store.name = held.objects.protection.locate(first_chunk(held, manifest.guests[0].disks[0].index))
    store.times, store.error = 99, OSError(errno.EIO, "Input/output error")
    (damage,) = verify(held, [manifest], set_aside=True).chunks
    assert damage.set_aside
    assert not held.store.exists(store.name)


def test_a_medium_that_fails_twice_and_then_does_not_loses_nothing(held: Repository) -> None:
    manifest = seal(held, 1, DISK)
    store = flaky(held)
    store.name = held.objects.protection.locate(first_chunk(held, manifest.guests[0].disks[0].index))
    store.times, store.error = 2, OSError(errno.EIO, "Input/output error")
    (damage,) = verify(held, [manifest], set_aside=True).chunks
    # what was moved was looked at once more, and it was sound after all: it is back
    assert not damage.set_aside
    assert held.store.exists(store.name)
    assert aside_names(held) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.ENOTCONN])
def test_what_cannot_be_read_for_another_reason_is_told_and_left_where_it_is(held: Repository, number: int) -> None:
    manifest = seal(held, 1, DISK)
    store = flaky(held)
    store.name = held.objects.protection.locate(first_chunk(held, manifest.guests[0].disks[0].index))
    store.times, store.error = 99, OSError(number, "no")
    (damage,) = verify(held, [manifest], set_aside=True).chunks
    assert not damage.set_aside
    assert aside_names(held) == []


def test_a_store_that_is_away_ends_the_run_and_condemns_nothing() -> None:
    class Away(Flaky):
        def get(self, name: str) -> bytes:
            if name == self.name:
                raise RepositoryNotReadable("The server is away.", transient=True)
            return super().get(name)

    store = Away()
    repository = Repository.init_in(store, chunk_bytes=CHUNK)
    manifest = seal(repository, 1, DISK)
    store.name = locate(first_chunk(repository, manifest.guests[0].disks[0].index))
    with pytest.raises(RepositoryNotReadable):
        verify(repository, [manifest], set_aside=True)
    assert aside_names(repository) == []


def test_a_sound_object_that_was_set_aside_by_mistake_is_put_back(held: Repository) -> None:
    """As by a machine whose memory is bad: it sees damage everywhere, and moves it."""
    name = spoilt(held)
    spoilt_bytes = held.store.get(name)
    verify(held, held.manifests(), set_aside=True)
    spoil(held, damaged_name(name))  # the same bit again: it is what was written
    report = verify(held, held.manifests(), set_aside=True)
    assert report.sound
    assert len(report.put_back) == 1
    assert held.store.get(name) != spoilt_bytes
    assert aside_names(held) == []


def test_what_another_wrote_anew_meanwhile_is_not_moved_away(held: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst that two who verify and a writer can do: judged damaged, written anew, then moved."""
    name = spoilt(held)
    manifest = held.manifest("latest")
    digest = first_chunk(held, manifest.guests[0].disks[0].index)
    held.store.delete(name)
    seal(held, 2, DISK)
    assert not set_aside(held.objects, Kind.CHUNK, digest, "it looked damaged a moment ago")
    assert verify(held, held.manifests()).sound
    assert aside_names(held) == []


def test_that_test_can_fail(held: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "look_aside", lambda *_: Verdict.DAMAGED)
    with pytest.raises(AssertionError):
        test_what_another_wrote_anew_meanwhile_is_not_moved_away(held, monkeypatch)


def test_of_two_who_find_the_same_damage_one_moves_it(held: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """In object storage a move is a copy and a delete: a second one's delete could hit what was written anew between them."""
    name = spoilt(held)
    digest = first_chunk(held, held.manifest("latest").guests[0].disks[0].index)
    moves: list[str] = []
    inner = held.store.move

    def move(self: Flaky, source: str, to: str) -> None:
        moves.append(source)
        assert not set_aside(held.objects, Kind.CHUNK, digest, "found by another at the same time")
        inner(source, to)

    monkeypatch.setattr(Flaky, "move", move)
    assert set_aside(held.objects, Kind.CHUNK, digest, "found")
    assert moves == [name]


def test_a_claim_of_somebody_who_died_is_taken_over_after_an_hour(held: Repository) -> None:
    name = spoilt(held)
    flaky(held).read_only = True
    assert verify(held, held.manifests(), set_aside=True).notes
    flaky(held).read_only = False
    verify(held, held.manifests(), set_aside=True)
    assert held.store.exists(name)
    pass_(held, hours=1, minutes=1)
    assert verify(held, held.manifests(), set_aside=True).chunks[0].set_aside
    assert not held.store.exists(name)


def test_who_may_not_write_still_verifies(held: Repository) -> None:
    spoilt(held)
    flaky(held).read_only = True
    report = verify(held, held.manifests(), set_aside=True)
    assert len(report.chunks) == 1
    assert "could not be set aside" in report.notes[0]


def test_a_damaged_index_is_set_aside_and_the_same_disk_writes_it_anew(held: Repository) -> None:
    manifest = seal(held, 1, DISK)
    digest = manifest.guests[0].disks[0].index
    name = held.objects.protection.index_name(bytes.fromhex(digest))
    spoil(held, name)
    (damage,) = verify(held, [manifest], set_aside=True).indexes
    assert damage.set_aside
    assert [place.guest_name for place in damage.places] == ["db1"]
    assert not held.store.exists(name)
    assert store_disk(held, DISK) == digest
    report = verify(held, [manifest], set_aside=True)
    assert report.sound
    assert report.whole_again == (capture_id(1),)


def test_a_document_of_another_object_touches_nothing() -> None:
    repository = Repository.init_in(Flaky(), chunk_bytes=CHUNK)
    name = spoilt(repository)
    verify(repository, repository.manifests(), set_aside=True)
    seal(repository, 2, disk_of(b"c"))
    document = repository.store.get(damaged_document(name))
    other = locate(first_chunk(repository, repository.manifest(capture_id(2)).guests[0].disks[0].index))
    repository.store.put_many([(damaged_document(other), document)])
    verify(repository, repository.manifests(), set_aside=True)
    assert repository.store.exists(other)
    assert repository.store.exists(damaged_document(other))


def test_a_document_of_another_object_is_no_word_about_what_is_set_aside_under_that_name(held: Repository) -> None:
    """Else that object would be taken away as soon as the other is whole again."""
    manifest = seal(held, 1, DISK)
    with held.index(manifest.guests[0].disks[0].index) as index:
        names = [held.objects.protection.locate(digest) for _, digest in index.used_slots()]
    for name in names:
        spoil(held, name)
    verify(held, [manifest], set_aside=True)
    assert None not in [one.document for one in list_aside(held.objects)]
    mine, others = names
    document = held.objects.protection.reveal(damaged_document(mine), held.store.get(damaged_document(mine)))
    stored = held.objects.protection.protect(damaged_document(others), document)
    held.store.put_many([(damaged_document(others), stored)])
    assert {one.object_name: one.document is None for one in list_aside(held.objects)} == {
        damaged_name(mine): False,
        damaged_name(others): True,
    }


def test_a_directory_sets_aside_by_renaming(repository: Repository, root: Path) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    (path,) = (root / "chunks").glob("??/*")
    path.write_bytes(path.read_bytes()[:-1])
    inode = path.stat().st_ino
    verify(repository, [manifest], set_aside=True)
    assert (root / "damaged" / path.name).stat().st_ino == inode
    assert not path.exists()


def test_a_manifest_that_names_two_disks_is_told_with_both(held: Repository) -> None:
    index = store_disk(held, disk_of(b"a"))
    disks = (disk_capture(index, CHUNK), disk_capture(index, CHUNK, target="vdb"))
    held.write_manifest(manifest_of(1, *disks))
    spoil(held, held.objects.protection.locate(first_chunk(held, index)))
    (damage,) = verify(held, held.manifests(), set_aside=True).chunks
    assert [place.target for place in damage.places] == ["vda", "vdb"]


def test_objects_need_no_repository_to_be_asked_what_is_set_aside() -> None:
    assert list_aside(Objects(MemoryStore())) == []
