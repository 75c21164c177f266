"""The review of what is set aside: it changes nothing unasked, and what it cannot judge or change stays damage."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from freezeframe.repository import Manifest, Repository, Tier, verify
from freezeframe.repository.aside import Kind, set_aside
from freezeframe.repository.errors import RepositoryNotWritable
from freezeframe.repository.layout import DAMAGED, damaged_name, locate
from freezeframe.repository.verify import Progress, verify_share
from freezeframe.repository.verify.record import Verified, read_records, write_folder
from freezeframe.repository.verify.run import Run

from .samples import CHUNK, disk_of, random_disk, seal
from .test_aside import Flaky, flaky, spoil


class ReadOnly(Flaky):
    """Deletes nothing when it is mounted read-only."""

    def delete(self, name: str) -> None:
        if self.read_only:
            raise RepositoryNotWritable("It is mounted read-only.")
        super().delete(name)


@pytest.fixture
def repository() -> Repository:
    return Repository.init_in(ReadOnly(), chunk_bytes=CHUNK)


def chunks_of(repository: Repository, manifest: Manifest) -> list[bytes]:
    with repository.index(manifest.guests[0].disks[0].index) as index:
        return [digest for _, digest in index.used_slots()]


@pytest.fixture
def held(repository: Repository) -> tuple[Manifest, list[bytes]]:
    """A capture of which every chunk is set aside, all damaged but the last, which is sound."""
    manifest = seal(repository, 1, disk_of(b"a", b"b", b"c"))
    chunks = chunks_of(repository, manifest)
    for chunk in chunks:
        spoil(repository, locate(chunk))
        assert set_aside(repository.objects, Kind.CHUNK, chunk, "it is damaged")
    spoil(repository, damaged_name(locate(chunks[-1])))
    return manifest, chunks


def test_who_only_looks_changes_nothing(repository: Repository, held: tuple[Manifest, list[bytes]]) -> None:
    manifest, chunks = held
    repository.store.put_many([(locate(chunks[0]), b"")])
    seal(repository, 2, disk_of(b"b"))  # which repairs the second
    before = dict(flaky(repository)._objects)
    report = verify(repository, [manifest])
    assert flaky(repository)._objects == before
    assert (report.repaired, report.put_back) == ((chunks[1].hex(),), (chunks[2].hex(),))


def test_what_is_damaged_under_its_own_name_again_is_told_as_it_is_found(
    repository: Repository, held: tuple[Manifest, list[bytes]]
) -> None:
    manifest, chunks = held
    repository.store.put_many([(locate(chunks[0]), b"half")])
    damage = {one.digest: one.reason for one in verify(repository, [manifest]).chunks}
    assert "cut short" in damage[chunks[0].hex()]
    assert "was set aside at" in damage[chunks[1].hex()]


def test_what_a_read_only_repository_leaves_where_it_is_stays_damage(
    repository: Repository, held: tuple[Manifest, list[bytes]]
) -> None:
    """It is found at the first that could be changed; what comes after that is not left out of the report."""
    manifest, chunks = held
    names = sorted(repository.store.names(DAMAGED))
    flaky(repository).read_only = True
    report = verify(repository, [manifest], set_aside=True)
    assert "could not be changed: It is mounted read-only." in report.notes[0]
    assert {one.digest for one in report.chunks} == {one.hex() for one in chunks}
    assert all(one.set_aside for one in report.chunks)
    assert sorted(repository.store.names(DAMAGED)) == names


def test_a_damaged_index_is_looked_at_once(repository: Repository) -> None:
    seal(repository, 1, random_disk(30))
    broken = seal(repository, 2, random_disk(30)).guests[0].disks[0].index
    name = repository.objects.protection.index_name(bytes.fromhex(broken))
    spoil(repository, name)
    report = verify_share(repository, Fraction(1))
    assert [one.digest for one in report.indexes] == [broken]
    assert flaky(repository).dropped == [name, name]  # the two reads of one look


@pytest.mark.parametrize(("number", "recorded"), [(errno.EIO, 256), (errno.EACCES, 255)])
def test_a_folder_of_which_the_store_could_not_say_everything_is_not_recorded(
    repository: Repository, number: int, recorded: int
) -> None:
    """It is verified the next time; what the medium has lost is known for certain."""
    chunks = chunks_of(repository, seal(repository, 1, random_disk(300)))
    store = flaky(repository)
    store.name, store.times, store.error = locate(chunks[5]), 99, OSError(number, "no")
    report = verify_share(repository, Fraction(1))
    assert [one.digest for one in report.chunks] == [chunks[5].hex()]
    assert 256 - read_records(repository.objects).never(Tier.REHASHED) == recorded


def test_damage_that_is_set_aside_is_told_of_each_of_its_captures(repository: Repository) -> None:
    first, second = (seal(repository, number, disk_of(b"a", b"b")) for number in (1, 2))
    chunk = chunks_of(repository, first)[0]
    spoil(repository, locate(chunk))
    assert set_aside(repository.objects, Kind.CHUNK, chunk, "it is damaged")
    for asked in ([first], [second], [first, second]):
        report = verify(repository, asked, Tier.PRESENT)
        assert [(one.digest, one.set_aside) for one in report.chunks] == [(chunk.hex(), True)]
    write_folder(repository.objects, chunk[:1].hex(), Tier.REHASHED, Verified(at=datetime.now(UTC), chunks=1, bytes=1))
    share = verify_share(repository, Fraction(1, 256))
    assert share.folders != (chunk[:1].hex(),)
    assert [(one.digest, one.set_aside) for one in share.chunks] == [(chunk.hex(), True)]


def test_damage_of_a_capture_that_is_forgotten_meanwhile_is_nobodys(repository: Repository) -> None:
    manifest = seal(repository, 1, disk_of(b"a", b"b"))
    repository.store.delete(locate(chunks_of(repository, manifest)[0]))
    forgotten = iter([manifest.capture_id])

    def meanwhile(_: Progress) -> None:
        for capture in forgotten:
            repository.forget(capture)

    assert verify(repository, [manifest], on_progress=meanwhile).sound


def test_a_report_has_the_damage_of_its_captures_that_was_set_aside_and_no_others(
    repository: Repository, held: tuple[Manifest, list[bytes]]
) -> None:
    """Looked at again or not: another host may have found it, in a folder that is not this run's turn."""
    first, chunks = held
    second = seal(repository, 2, disk_of(b"d"))
    third = seal(repository, 3, disk_of(b"d"))
    (shared,) = chunks_of(repository, second)
    spoil(repository, locate(shared))
    assert set_aside(repository.objects, Kind.CHUNK, shared, "it is damaged")
    run = Run(repository, Tier.REHASHED, None, aside=False)
    for asked, digest in (([second], shared), ([third], shared), ([second, third], shared)):
        (damage,) = run.report(asked).chunks
        assert (damage.digest, damage.set_aside) == (digest.hex(), True)
    assert {one.digest for one in run.report([first]).chunks} == {one.hex() for one in chunks[:2]}


def test_what_was_repaired_before_a_review_could_change_no_more_is_told_as_that_and_not_as_damage(
    repository: Repository, held: tuple[Manifest, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, _ = held
    seal(repository, 2, disk_of(b"a", b"b", b"c"))  # which repairs all of them
    first, *others = sorted(name.rpartition("/")[2] for name in repository.store.names(DAMAGED) if "." not in name)
    deleted: list[str] = []
    delete = ReadOnly.delete

    def until_then(store: ReadOnly, name: str) -> None:
        store.read_only = len(deleted) == 3  # an object under two names, and its document
        delete(store, name)
        if name.startswith(DAMAGED):
            deleted.append(name)

    monkeypatch.setattr(ReadOnly, "delete", until_then)
    report = verify(repository, [manifest], set_aside=True)
    assert report.repaired == (first,)
    assert {one.digest for one in report.chunks} == set(others)


def test_an_index_that_is_set_aside_is_damage_until_it_is_written_anew(repository: Repository) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    index = manifest.guests[0].disks[0].index
    spoil(repository, repository.objects.protection.index_name(bytes.fromhex(index)))
    for _ in range(2):
        (damage,) = verify(repository, [manifest], set_aside=True).indexes
        assert (damage.digest, damage.set_aside) == (index, True)
    seal(repository, 2, disk_of(b"a"))
    report = verify(repository, [manifest], set_aside=True)
    assert (report.sound, report.repaired) == (True, (index,))
