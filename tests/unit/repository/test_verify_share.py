"""Verifying a share: the folders that have waited longest, with records that hosts share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from freezeframe.repository import Repository, Tier
from freezeframe.repository.errors import RepositoryNotReadable, RepositoryNotWritable
from freezeframe.repository.layout import FAN_OUT, VERIFIED, verified_name
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.verify import Progress, parse_share, verify_share
from freezeframe.repository.verify.folders import oldest_folders
from freezeframe.repository.verify.record import (
    FolderRecord,
    Records,
    Verified,
    read_folder,
    read_records,
    write_folder,
)

from .locked import PROTECTIONS, locked, protected
from .samples import CHUNK, capture_id, random_disk, read_disk, seal

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ALL = Fraction(1)


class Watched(MemoryStore):
    """Counts what is read; may be away from a number of reads on, and may be read-only for records."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.away_after: int | None = None
        self.read_only = False

    def get(self, name: str) -> bytes:
        if name.startswith("chunks/"):
            self.read.append(name)
            if self.away_after is not None and len(self.read) > self.away_after:
                raise RepositoryNotReadable("The server is away.", transient=True)
        return super().get(name)

    def size(self, name: str) -> int:
        return len(super().get(name))

    def put(self, name: str, source: object) -> None:
        if self.read_only and name.startswith(VERIFIED):
            raise RepositoryNotWritable("It is mounted read-only.")
        super().put(name, source)  # type: ignore[arg-type]


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    """With two captures of 600 chunks each, a third of them shared."""
    store = Watched()
    repository = protected(request.param, store)
    disk = random_disk(600)
    seal(repository, 1, disk)
    seal(repository, 2, disk[: 200 * CHUNK] + random_disk(400))
    store.read.clear()
    return repository


def watched(repository: Repository) -> Watched:
    assert isinstance(repository.store, Watched)
    return repository.store


class Clock:
    """Every look at it is a second later."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.mark.parametrize(
    ("text", "share"),
    [("1/30", Fraction(1, 30)), ("3%", Fraction(3, 100)), ("100%", ALL), ("2.5 %", Fraction(1, 40)), (" 1 / 1 ", ALL)],
)
def test_a_share_is_a_fraction_or_a_percentage(text: str, share: Fraction) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "0/3", "1/0", "2/1", "101%", "0%", "-1/3", "a third", "0.3", "1/30/2"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="share"):
        parse_share(text)


def records_of(**times: datetime) -> Records:
    return Records(
        {one: FolderRecord(tiers={Tier.REHASHED: Verified(at=at, chunks=1, bytes=1)}) for one, at in times.items()}
    )


def test_what_was_never_verified_comes_first_then_the_oldest() -> None:
    times = {folder: NOW + timedelta(days=int(folder, 16)) for folder in FAN_OUT if folder not in {"77", "f0"}}
    records = records_of(**times)
    assert oldest_folders(records, Tier.REHASHED, Fraction(4, 256)) == ["77", "f0", "00", "01"]
    assert oldest_folders(records, Tier.REHASHED, Fraction(1, 10_000)) == ["77"]
    assert (records.never(Tier.REHASHED), records.oldest(Tier.REHASHED)) == (2, None)
    assert records_of(**dict.fromkeys(FAN_OUT, NOW)).oldest(Tier.PRESENT) == NOW


def test_a_closer_look_counts_for_less_close_tiers_and_not_the_other_way() -> None:
    rehashed = records_of(**dict.fromkeys(FAN_OUT, NOW))
    assert rehashed.never(Tier.PRESENT) == 0
    present = Records({"00": FolderRecord(tiers={Tier.PRESENT: Verified(at=NOW, chunks=1, bytes=1)})})
    assert present.last("00", Tier.REHASHED) is None


def test_thirty_runs_of_a_thirtieth_verify_every_chunk_of_all_captures_once(held: Repository) -> None:
    clock = Clock()
    reports = [verify_share(held, Fraction(1, 30), clock=clock) for _ in range(28)]
    seen = watched(held).read
    assert len(seen) == len(set(seen)) == sum(one.chunks_checked for one in reports)
    assert 900 < len(seen) < 1000  # 28 times 9 folders are 252
    reports.append(verify_share(held, Fraction(1, 30), clock=clock))
    assert len(set(seen)) == 1000
    assert all(one.sound for one in reports)
    assert all(one.captures == (capture_id(2), capture_id(1)) for one in reports)
    records = read_records(held.objects)
    assert records.never(Tier.REHASHED) == 0
    assert records.indexes is not None
    assert (records.indexes.captures, records.indexes.indexes, records.indexes.newest) == (2, 2, capture_id(2))


def test_a_run_that_is_interrupted_keeps_what_it_has_done(held: Repository) -> None:
    store = watched(held)
    store.away_after = 500
    with pytest.raises(RepositoryNotReadable):
        verify_share(held, ALL)
    store.away_after = None
    done = 256 - read_records(held.objects).never(Tier.REHASHED)
    assert 50 < done < 200
    before = set(store.read[:500])
    store.read.clear()
    verify_share(held, Fraction(256 - done, 256))
    assert len(set(store.read) | before) == 1000
    assert len(store.read) < 600
    assert read_records(held.objects).never(Tier.REHASHED) == 0


def test_what_another_run_has_verified_meanwhile_is_left_out(held: Repository) -> None:
    """Two runs over all of it, one in the middle of the other."""
    other = iter([held])

    def meanwhile(now: Progress) -> None:
        if now.folders_done == 100:
            for repository in other:
                verify_share(repository, ALL)

    report = verify_share(held, ALL, on_progress=meanwhile)
    assert report.sound
    assert report.chunks_checked < 600  # the rest was done by the other
    assert read_records(held.objects).never(Tier.REHASHED) == 0


def test_damage_in_the_share_is_found_whoever_captured_it_and_set_aside(held: Repository) -> None:
    store = watched(held)
    (name, *_) = sorted(one for one in store._objects if one.startswith("chunks/"))
    data = bytearray(store._objects[name])
    data[-1] ^= 1
    store._objects[name] = bytes(data)
    folder = name[7:9]
    others = {one: NOW for one in FAN_OUT if one != folder}
    for one, at in others.items():
        write_folder(held.objects, one, Tier.REHASHED, Verified(at=at, chunks=0, bytes=0))
    report = verify_share(held, Fraction(1, 256), set_aside=True)
    assert report.folders == (folder,)
    assert [one.set_aside for one in report.chunks] == [True]
    assert not store.exists(name)
    record = read_folder(held.objects, folder)
    assert record is not None
    assert record.tiers[Tier.REHASHED].damaged == 1
    # known damage is told by every later run, whatever its share
    later = verify_share(held, Fraction(1, 256), set_aside=True)
    assert later.folders != report.folders
    assert [one.digest for one in later.chunks] == [one.digest for one in report.chunks]


def test_tiers_are_recorded_beside_each_other(held: Repository) -> None:
    verify_share(held, ALL, Tier.PRESENT)
    assert watched(held).read == []
    verify_share(held, Fraction(1, 256), Tier.REHASHED)
    records = read_records(held.objects)
    assert (records.never(Tier.PRESENT), records.never(Tier.REHASHED)) == (0, 255)


def test_a_record_that_cannot_be_read_means_never(held: Repository) -> None:
    verify_share(held, ALL)
    held.store.put_many([(verified_name("00"), b"\xff\0"), (verified_name("01"), b'{"format": 1, "tiers": {}}')])
    flipped = bytearray(held.store.get(verified_name("02")))
    place = flipped.find(b'"at":"2')
    flipped[100 if place < 0 else place + 7] ^= 1  # another century, where it is plain
    held.store.put_many([(verified_name("02"), bytes(flipped))])
    assert read_records(held.objects).never(Tier.REHASHED) == 3
    verify_share(held, Fraction(3, 256))
    assert read_records(held.objects).never(Tier.REHASHED) == 0


def test_a_record_from_the_future_keeps_nothing_from_being_verified(held: Repository) -> None:
    write_folder(held.objects, "00", Tier.REHASHED, Verified(at=datetime.max.replace(tzinfo=UTC), chunks=0, bytes=0))
    assert read_records(held.objects).never(Tier.REHASHED) == 256
    assert verify_share(held, Fraction(1, 256)).folders == ("00",)
    assert read_records(held.objects).never(Tier.REHASHED) == 255


def test_who_may_only_read_verifies_all_the_same(held: Repository) -> None:
    watched(held).read_only = True
    report = verify_share(held, ALL)
    assert report.sound
    assert report.chunks_checked == 1000
    assert report.notes == ("What was verified could not be recorded: It is mounted read-only.",)


def test_a_damaged_index_is_told_once_and_the_others_are_verified(held: Repository) -> None:
    index = held.manifest(capture_id(1)).guests[0].disks[0].index
    held.store.delete(held.objects.protection.index_name(bytes.fromhex(index)))
    report = verify_share(held, ALL)
    assert [one.digest for one in report.indexes] == [index]
    assert report.chunks_checked == 600
    assert len(read_disk(held, held.manifest(capture_id(2)).guests[0].disks[0].index)) == 600 * CHUNK


def test_nothing_in_an_encrypted_repository_shows_what_was_verified() -> None:
    repository = locked(Watched())
    seal(repository, 1, random_disk(4))
    verify_share(repository, ALL)
    assert all(b"tiers" not in repository.store.get(name) for name in repository.store.names(VERIFIED))
    assert read_records(repository.objects).never(Tier.REHASHED) == 0
