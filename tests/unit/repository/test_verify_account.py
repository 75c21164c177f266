"""What a verification counts, records and tells, and of what: each where a wrong word would hide damage or invent some."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from freezeframe.errors import EXIT_DAMAGED, EXIT_REFUSED, FreezeframeError
from freezeframe.repository import Manifest, Repository, Tier, verify
from freezeframe.repository.aside import Kind, set_aside
from freezeframe.repository.check import check
from freezeframe.repository.layout import FAN_OUT, VERIFIED, damaged_document, damaged_name, locate
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.verify import CapturedDisk, Progress, Rehearsed, verify_restored, verify_share
from freezeframe.repository.verify.record import Verified, read_folder, read_records, write_folder

from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, random_disk, seal, store_disk

DISK = disk_of(b"a", b"b")


class Read(MemoryStore):
    """Knows what was read, in order; the first so many reads of one object give other bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.bad: dict[str, int] = {}

    def get(self, name: str) -> bytes:
        self.read.append(name)
        data = super().get(name)
        if self.bad.get(name, 0) > 0:
            self.bad[name] -= 1
            return bytes(len(data))
        return data


@pytest.fixture
def store() -> Read:
    return Read()


@pytest.fixture
def repository(store: Read) -> Repository:
    return Repository.init_in(store, chunk_bytes=CHUNK)


def index_of(manifest: Manifest) -> str:
    return manifest.guests[0].disks[0].index


def chunks_of(repository: Repository, manifest: Manifest) -> list[bytes]:
    with repository.index(index_of(manifest)) as index:
        return [digest for _, digest in index.used_slots()]


def spoil(store: Read, name: str) -> None:
    data = bytearray(store._objects[name])
    data[-1] ^= 1
    store._objects[name] = bytes(data)


# what is counted


def test_each_folders_record_counts_what_was_in_that_folder(repository: Repository, store: Read) -> None:
    """Not what the run had looked at by then."""
    chunks = chunks_of(repository, seal(repository, 1, random_disk(300)))
    sizes = {folder: [store.size(locate(one)) for one in chunks if one[0] == int(folder, 16)] for folder in FAN_OUT}
    damaged = chunks[7][:1].hex()
    spoil(store, locate(chunks[7]))
    verify_share(repository, Fraction(1))
    records = {folder: read_folder(repository.objects, folder) for folder in FAN_OUT}
    told = {folder: record.tiers[Tier.REHASHED] for folder, record in records.items() if record is not None}
    assert {folder: one.chunks for folder, one in told.items()} == {one: len(some) for one, some in sizes.items()}
    assert {folder: one.damaged for folder, one in told.items() if one.damaged} == {damaged: 1}
    read_twice = store.size(locate(chunks[7]))
    wanted = {folder: sum(some) + read_twice * (folder == damaged) for folder, some in sizes.items()}
    assert {folder: one.bytes for folder, one in told.items()} == wanted


def test_a_chunk_that_was_read_twice_counts_twice(repository: Repository, store: Read) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    (chunk,) = chunks_of(repository, manifest)
    store.bad[locate(chunk)] = 1
    report = verify(repository, [manifest])
    assert (report.bad_reads, report.chunks_checked) == (1, 1)
    assert report.bytes_read == 2 * store.size(locate(chunk))


def test_records_that_are_not_listed_are_not_asked_for(repository: Repository, store: Read) -> None:
    """In object storage 256 questions take a second, and most would be for nothing."""
    write_folder(repository.objects, "07", Tier.REHASHED, Verified(at=datetime.now(UTC), chunks=1, bytes=1))
    store.read.clear()
    assert list(read_records(repository.objects).folders) == ["07"]
    asked = [name for name in store.read if len(name) == len(f"{VERIFIED}/07.json")]
    assert asked == [f"{VERIFIED}/07.json"]


# whose damage is told


def test_damage_of_other_captures_is_not_told_of_those_that_were_asked_for(repository: Repository, store: Read) -> None:
    first, second = seal(repository, 1, DISK), seal(repository, 2, disk_of(b"c"))
    spoil(store, locate(chunks_of(repository, first)[0]))
    assert not verify(repository, [first], set_aside=True).sound
    report = verify(repository, [second], set_aside=True)
    assert report.sound
    assert report.captures == (capture_id(2),)
    assert verify(repository, [first], set_aside=True).damaged_captures == [capture_id(1)]


def test_an_index_that_is_set_aside_stays_damage_until_it_is_written_anew(repository: Repository, store: Read) -> None:
    manifest = seal(repository, 1, DISK)
    name = repository.objects.protection.index_name(bytes.fromhex(index_of(manifest)))
    spoil(store, name)
    assert verify(repository, [manifest], set_aside=True).indexes[0].set_aside
    for _ in range(2):
        (damage,) = verify(repository, [manifest], set_aside=True).indexes
        assert damage.set_aside
        assert "was set aside at" in damage.reason
    assert store_disk(repository, DISK) == index_of(manifest)
    assert verify(repository, [manifest], set_aside=True).sound


@pytest.mark.parametrize("aside", [False, True])
def test_a_check_says_which_of_the_missing_is_set_aside(
    repository: Repository,
    store: Read,
    aside: bool,  # noqa: FBT001
) -> None:
    lost = seal(repository, 1, DISK)
    other = store_disk(repository, disk_of(b"c"))
    repository.write_manifest(manifest_of(2, disk_capture(other, CHUNK)))
    chunk, index = chunks_of(repository, lost)[0], bytes.fromhex(other)
    for kind, digest, name in (
        (Kind.CHUNK, chunk, locate(chunk)),
        (Kind.INDEX, index, repository.objects.protection.index_name(index)),
    ):
        if aside:
            spoil(store, name)
            assert set_aside(repository.objects, kind, digest, "it is damaged")
        else:
            store.delete(name)
    report = check(repository)
    assert [(one.digest, one.set_aside) for one in report.chunks] == [(chunk.hex(), aside)]
    assert [(one.digest, one.set_aside) for one in report.indexes] == [(index.hex(), aside)]


def test_a_document_that_speaks_of_another_object_takes_none_away(repository: Repository, store: Read) -> None:
    """Whoever exchanges documents must not have a sound object cleared in the name of another."""
    manifest = seal(repository, 1, DISK)
    mistaken, sound = chunks_of(repository, manifest)
    spoil(store, locate(mistaken))
    assert set_aside(repository.objects, Kind.CHUNK, mistaken, "a machine with bad memory said so")
    spoil(store, damaged_name(locate(mistaken)))  # the same bit again: it is what was written
    mine, others = (damaged_document(locate(one)) for one in (mistaken, sound))
    document = store.get(mine).replace(mistaken.hex().encode(), sound.hex().encode())
    store.put_many([(mine, document)])
    verify(repository, [manifest], set_aside=True)
    assert store.exists(locate(mistaken))  # it is sound, whatever its document says
    assert store.exists(locate(sound))
    assert not store.exists(others)


# restored


class Rehearses:
    """A rehearsal that ends as it is told; knows what it was asked to restore."""

    def __init__(self, end: Rehearsed | FreezeframeError) -> None:
        self.end = end
        self.restored: list[str] = []
        self.room_for: set[str] = set()

    def check_room(self, repository: Repository, indexes: Collection[str]) -> None:
        assert not self.restored
        self.room_for = set(indexes)

    def restore(self, repository: Repository, disk: CapturedDisk, on_progress: Callable[[int], None]) -> Rehearsed:
        assert isinstance(repository, Repository)
        self.restored.append(str(disk))
        on_progress(CHUNK)
        on_progress(2 * CHUNK)
        if isinstance(self.end, FreezeframeError):
            raise self.end
        return self.end


class MetDamageError(FreezeframeError):
    code = "met-damage"
    exit_code = EXIT_DAMAGED


class NoPlaceError(FreezeframeError):
    code = "no-place"
    exit_code = EXIT_REFUSED


def test_a_restore_that_meets_damage_has_every_damaged_chunk_looked_for(repository: Repository, store: Read) -> None:
    manifest = seal(repository, 1, disk_of(b"a", b"b", b"c"))
    chunks = chunks_of(repository, manifest)
    for chunk in chunks[:2]:
        spoil(store, locate(chunk))
    report = verify_restored(repository, [manifest], Rehearses(MetDamageError("the restore ended")))
    assert {one.digest for one in report.chunks} == {one.hex() for one in chunks[:2]}
    assert report.restores == ()
    assert read_records(repository.objects).restored.captures == {}


def test_a_disk_that_cannot_be_restored_though_its_chunks_are_sound_is_damage(repository: Repository) -> None:
    manifest = seal(repository, 1, DISK)
    report = verify_restored(repository, [manifest], Rehearses(MetDamageError("the restore ended")))
    assert [one.reason for one in report.restores] == ["the restore ended"]
    assert report.damaged_captures == [capture_id(1)]


def test_a_rehearsal_that_has_no_place_says_nothing_of_the_repository(repository: Repository) -> None:
    manifest = seal(repository, 1, DISK)
    with pytest.raises(NoPlaceError):
        verify_restored(repository, [manifest], Rehearses(NoPlaceError("no room")))


def test_what_was_restored_is_counted_and_remembered(repository: Repository) -> None:
    """A disk that two captures share is restored once, and both count as restored."""
    manifests = [seal(repository, number, DISK) for number in (1, 2)]
    manifests.append(seal(repository, 3, disk_of(b"c")))
    rehearsal, told = Rehearses(Rehearsed(chunks=2, bytes_read=2 * CHUNK)), list[Progress]()
    report = verify_restored(repository, manifests, rehearsal, told.append)
    assert (report.sound, report.notes) == (True, ())
    assert (report.chunks_checked, report.bytes_read) == (4, 4 * CHUNK)
    assert rehearsal.restored == [f"disk vda of guest db1 in capture {capture_id(number)}" for number in (1, 3)]
    assert rehearsal.room_for == {index_of(one) for one in manifests}
    assert [(one.chunks_checked, one.bytes_read) for one in told] == [(n, n * CHUNK) for n in (1, 2, 3, 4)]
    assert set(read_records(repository.objects).restored.captures) == {capture_id(number) for number in (1, 2, 3)}


def test_slots_that_read_back_wrongly_are_told_with_the_first(repository: Repository) -> None:
    manifest = seal(repository, 1, DISK)
    report = verify_restored(repository, [manifest], Rehearses(Rehearsed(2, 2 * CHUNK, wrong_slots=(1, 3))))
    (damage,) = report.restores
    assert "reads back wrongly at slot 1, and 2 slots in all" in damage.reason


def test_a_disk_of_a_capture_that_is_forgotten_while_it_is_restored_is_nobodys(repository: Repository) -> None:
    manifest = seal(repository, 1, DISK)

    def forget(_: Progress) -> None:
        if repository.is_sealed(capture_id(1)):
            repository.forget(capture_id(1))

    report = verify_restored(repository, [manifest], Rehearses(MetDamageError("the restore ended")), forget)
    assert report.sound
    assert report.restores == ()
