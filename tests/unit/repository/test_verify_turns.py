"""Hosts that verify in turns: what each records, tells, and leaves to the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from freezeframe.repository import Repository, Tier
from freezeframe.repository.layout import FAN_OUT
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.verify import Progress, verify_share
from freezeframe.repository.verify.record import (
    RestoredRecord,
    Verified,
    read_folder,
    read_records,
    write_folder,
    write_restored,
)

from .samples import CHUNK, capture_id, disk_of, random_disk, seal

ALL = Fraction(1)


@pytest.fixture
def repository() -> Repository:
    made = Repository.init_in(MemoryStore(), chunk_bytes=CHUNK)
    seal(made, 1, random_disk(40))
    return made


def now() -> datetime:
    return datetime.now(UTC)


def chunks_in(repository: Repository, folder: str) -> int:
    return len(list(repository.store.names(f"chunks/{folder}")))


def test_progress_ends_with_every_folder_and_every_chunk(repository: Repository) -> None:
    told: list[Progress] = []
    verify_share(repository, ALL, on_progress=told.append)
    assert [one.folders_done for one in told] == sorted(one.folders_done for one in told)
    assert (told[-1].folders_done, told[-1].chunks_checked) == (256, 40)
    assert len(told) == 256 + 40


def test_folders_are_gone_through_in_no_order(repository: Repository) -> None:
    """Two hosts that begin together would walk side by side, and both read all."""
    folders = verify_share(repository, ALL).folders
    assert sorted(folders) == list(FAN_OUT)
    assert list(folders) != list(FAN_OUT)


def test_the_indexes_that_were_read_are_recorded_up_to_the_newest(repository: Repository) -> None:
    broken = seal(repository, 2, disk_of(b"a")).guests[0].disks[0].index
    repository.store.delete(repository.objects.protection.index_name(bytes.fromhex(broken)))
    verify_share(repository, Fraction(1, 256))
    record = read_records(repository.objects).indexes
    assert record is not None
    assert (record.captures, record.indexes, record.damaged, record.newest) == (2, 2, 1, capture_id(2))


def test_an_empty_repository_has_no_newest() -> None:
    empty = Repository.init_in(MemoryStore(), chunk_bytes=CHUNK)
    assert verify_share(empty, ALL).sound
    record = read_records(empty.objects).indexes
    assert record is not None
    assert record.newest is None


@pytest.mark.parametrize(
    ("tier", "ahead", "left_out"),
    [
        (Tier.REHASHED, timedelta(hours=1), True),
        (Tier.PRESENT, timedelta(hours=1), False),
        (Tier.REHASHED, timedelta(hours=-1), False),
    ],
)
def test_what_another_has_verified_since_this_one_began_is_left_to_it(
    repository: Repository,
    tier: Tier,
    ahead: timedelta,
    left_out: bool,  # noqa: FBT001
) -> None:
    folder = max(FAN_OUT, key=lambda one: chunks_in(repository, one))
    others = Verified(at=now() + ahead, chunks=99, bytes=99)
    write_folder(repository.objects, folder, tier, others)
    report = verify_share(repository, ALL)
    assert report.chunks_checked == 40 - left_out * chunks_in(repository, folder)
    assert folder in report.folders
    record = read_folder(repository.objects, folder)
    assert record is not None
    assert (record.tiers.get(Tier.REHASHED) == others) == left_out


def test_a_record_keeps_what_other_tiers_say(repository: Repository) -> None:
    first, second = Verified(at=now(), chunks=1, bytes=1), Verified(at=now(), chunks=2, bytes=2)
    write_folder(repository.objects, "00", Tier.PRESENT, first)
    write_folder(repository.objects, "00", Tier.REHASHED, second)
    record = read_folder(repository.objects, "00")
    assert record is not None
    assert record.tiers == {Tier.PRESENT: first, Tier.REHASHED: second}
    assert record.last(Tier.PRESENT) == second.at
    assert record.last(Tier.RESTORED) is None


def test_the_hundred_latest_captures_that_were_restored_are_remembered(repository: Repository) -> None:
    began = now() - timedelta(days=1)
    for number in range(1, 105):
        write_restored(repository.objects, {capture_id(number): began + timedelta(seconds=number)})
    write_restored(repository.objects, {capture_id(5): began})
    kept = read_records(repository.objects).restored.captures
    assert set(kept) == {capture_id(number) for number in range(5, 105)}
    assert kept[capture_id(7)] == began + timedelta(seconds=7)
    assert RestoredRecord().captures == {}
