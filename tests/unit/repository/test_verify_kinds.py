"""Verification of what is just too short, of indexes, of captures with several disks, and by who may not write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import BinaryIO

import pytest

from freezeframe.errors import EXIT_DAMAGED, FreezeframeError
from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.chunk import HEADER_BYTES
from freezeframe.repository.errors import RepositoryFull, RepositoryNotReadable, RepositoryNotWritable
from freezeframe.repository.layout import FAN_OUT, MANIFESTS, VERIFIED, locate
from freezeframe.repository.verify import CapturedDisk, Rehearsed, looking, verify_restored
from freezeframe.repository.verify.looking import look_at_all, look_at_index
from freezeframe.repository.verify.record import FolderRecord, Records, Verified
from freezeframe.repository.verify.review import review

from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, random_disk, seal, store_disk
from .test_aside import Flaky, first_chunk, flaky, spoil

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Held(Flaky):
    """May refuse records; knows what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Exception | None = None
        self.read: list[str] = []

    def put(self, name: str, source: BinaryIO) -> None:
        if self.refuses is not None and name.startswith(VERIFIED):
            raise self.refuses
        super().put(name, source)

    def get(self, name: str) -> bytes:
        self.read.append(name)
        return super().get(name)


@pytest.fixture
def repository() -> Repository:
    return Repository.init_in(Held(), chunk_bytes=CHUNK)


@pytest.mark.parametrize(
    ("length", "sound"), [(HEADER_BYTES - 1, False), (HEADER_BYTES, False), (HEADER_BYTES + 1, True)]
)
def test_a_chunk_is_present_if_it_has_more_than_a_header(
    repository: Repository,
    length: int,
    sound: bool,  # noqa: FBT001
) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    name = locate(first_chunk(repository, manifest.guests[0].disks[0].index))
    repository.store.put(name, BytesIO(bytes(length)))
    assert verify(repository, [manifest], Tier.PRESENT).sound == sound


def test_an_index_is_looked_at_again_past_the_cache(repository: Repository) -> None:
    digest = bytes.fromhex(store_disk(repository, disk_of(b"a")))
    name = repository.objects.protection.index_name(digest)
    spoil(repository, name)
    assert isinstance(look_at_index(repository.objects, digest), looking.Fault)
    assert flaky(repository).dropped
    assert set(flaky(repository).dropped) == {name}


def test_chunks_are_looked_at_in_order_and_few_at_once(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, memory is bounded."""
    monkeypatch.setattr(looking, "_WINDOW", 3)
    with repository.index(store_disk(repository, random_disk(30))) as index:
        digests = [digest for _, digest in index.used_slots()]
    taken: list[bytes] = []

    def noted() -> Iterator[bytes]:
        for digest in digests:
            taken.append(digest)
            yield digest

    seen = []
    for look in look_at_all(repository.objects, Tier.REHASHED, noted(), CHUNK):
        seen.append(look.digest)
        assert len(taken) - len(seen) <= 3
    assert seen == digests


def test_the_oldest_record_is_that_of_the_folder_that_has_waited_longest() -> None:
    def record(*days: int) -> FolderRecord:
        tiers = (Tier.PRESENT, Tier.REHASHED)
        times = zip(tiers, days, strict=True)
        return FolderRecord(
            tiers={tier: Verified(at=NOW + timedelta(days=day), chunks=1, bytes=1) for tier, day in times}
        )

    records = Records({folder: record(number, 2 * number) for number, folder in enumerate(FAN_OUT, start=1)})
    assert records.oldest(Tier.PRESENT) == NOW + timedelta(days=2)  # a closer look counts, and it was later
    assert records.oldest(Tier.REHASHED) == NOW + timedelta(days=2)
    assert records.last("03", Tier.PRESENT) == NOW + timedelta(days=8)
    assert record(5, 3).last(Tier.PRESENT) == NOW + timedelta(days=5)


def test_with_nothing_set_aside_a_review_reads_no_capture(repository: Repository) -> None:
    seal(repository, 1, disk_of(b"a"))
    assert isinstance(repository.store, Held)
    repository.store.read.clear()
    review(repository, change=True)
    assert not [name for name in repository.store.read if name.startswith(MANIFESTS)]


class MetDamageError(FreezeframeError):
    exit_code = EXIT_DAMAGED


class OneWrong:
    """A rehearsal to which one disk is damaged."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong

    def check_room(self, repository: Repository, indexes: Collection[str]) -> None:
        assert self.wrong in {*indexes, ""}

    def restore(self, repository: Repository, disk: CapturedDisk, on_progress: Callable[[int], None]) -> Rehearsed:
        assert repository.is_sealed(disk.capture_id)
        on_progress(CHUNK)
        if disk.index == self.wrong:
            raise MetDamageError(f"{disk} is damaged")
        return Rehearsed(chunks=1, bytes_read=CHUNK)


def test_one_wrong_disk_of_two_has_its_capture_looked_through(repository: Repository) -> None:
    one, two = store_disk(repository, disk_of(b"a")), store_disk(repository, disk_of(b"b"))
    manifest = manifest_of(1, disk_capture(one, CHUNK), disk_capture(two, CHUNK, target="vdb"))
    repository.write_manifest(manifest)
    other = seal(repository, 2, disk_of(b"c"))
    spoil(repository, locate(first_chunk(repository, two)))
    report = verify_restored(repository, [manifest, other], OneWrong(two))
    assert [[place.target for place in damage.places] for damage in report.chunks] == [["vdb"]]
    assert report.restores == ()
    assert report.damaged_captures == [capture_id(1)]


@pytest.mark.parametrize("error", [RepositoryNotWritable("It is mounted read-only."), RepositoryFull("No room.")])
def test_who_may_not_write_restores_for_a_test_all_the_same(repository: Repository, error: Exception) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    assert isinstance(repository.store, Held)
    repository.store.refuses = error
    report = verify_restored(repository, [manifest], OneWrong())
    assert report.sound
    assert report.notes == (f"What was verified could not be recorded: {error}",)  # it is the next one's turn again


def test_nothing_more_is_asked_of_a_store_that_is_away(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the chunks ahead would wait for its own answer."""
    cancelled = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            cancelled.set()
            super().shutdown(wait=wait)

    def away(name: str) -> bytes:
        asked.append(name)
        assert len(asked) == 1 or cancelled.wait(60)  # the second is under way when the first is known to have failed
        raise RepositoryNotReadable("no answer", transient=True)

    asked: list[str] = []
    monkeypatch.setattr(looking, "lanes", lambda *_: 1)
    monkeypatch.setattr(looking, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(repository.store, "get", away)
    with pytest.raises(RepositoryNotReadable):
        list(look_at_all(repository.objects, Tier.REHASHED, [bytes([n]) * 32 for n in range(20)], CHUNK))
    assert 1 <= len(asked) <= 2
