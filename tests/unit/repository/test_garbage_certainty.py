"""Garbage collection where it cannot be certain, and what it must leave alone: each where a mistake would lose data."""

from __future__ import annotations

from datetime import timedelta
from typing import BinaryIO

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.errors import CollectionStopped
from freezeframe.repository.garbage import Progress
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import FORGOTTEN, TMP, condemned_name, folder_of, forgotten_name

from .locked import PROTECTIONS, protected
from .meanwhile import Meanwhile, run
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk
from .times import Time


def with_ripe_garbage(collected: Repository, time: Time) -> str:
    """A chunk and an index that a run may delete, and a second capture that is forgotten since; its manifest's name."""
    seal(collected, 1, disk_of(b"a"))
    seal(collected, 2, disk_of(b"b"))
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    assert run(collected, time).condemned.objects == 2
    time.pass_(days=30)
    collected.forget(capture_id(2))
    return collected.objects.protection.manifest_name(capture_id(2))


def test_a_forgotten_manifest_that_goes_before_it_is_read_stops_every_deletion(
    collected: Repository, store: Meanwhile, time: Time
) -> None:
    """Both looks have seen it; what it refers to is unknown, and an incremental may be begun upon that."""
    name = with_ripe_garbage(collected, time)
    other = RunRecord(run_id=capture_id(9), begun_at=time())
    Records(collected.objects).put(other)
    place = forgotten_name(name)
    store.before[place] = lambda: store.move(place, condemned_name(other.run_id, name))
    report = run(collected, time)
    assert (report.deleted.objects, report.waiting.objects > 0) == (0, True)
    assert run(collected, time).deleted.objects == 2


def test_a_forgotten_manifest_that_the_first_look_has_missed_stops_every_deletion(
    collected: Repository, store: Meanwhile, time: Time
) -> None:
    """Another run takes it over, from a folder that is not listed yet into one that has been."""
    name = with_ripe_garbage(collected, time)
    taker, dead = (RunRecord(run_id=capture_id(number), begun_at=time()) for number in (8, 9))
    for record in (taker, dead):
        Records(collected.objects).put(record)
    here, there = (condemned_name(record.run_id, name) for record in (dead, taker))
    store.move(forgotten_name(name), here)
    store.before[folder_of(here)] = lambda: store.move(here, there)
    report = run(collected, time)
    assert not store.before
    assert (report.deleted.objects, report.waiting.objects > 0) == (0, True)
    assert run(collected, time).deleted.objects == 2


def test_what_a_writer_has_in_tmp_stays_while_it_is_young(collected: Repository, store: Meanwhile, time: Time) -> None:
    store.put_many([(f"{TMP}/{'0' * 32}", b"half a chunk")])
    assert run(collected, time).temporary.objects == 0
    assert list(store.names(TMP)) == [f"{TMP}/{'0' * 32}"]


def test_a_run_over_a_sound_repository_asks_for_nothing_durable(
    collected: Repository, store: Meanwhile, time: Time
) -> None:
    """An fsync of each of 512 folders would hold up the captures that are under way."""
    seal(collected, 1, disk_of(b"a", b"b"))
    time.pass_(hours=2)
    store.settled.clear()
    run(collected, time)
    assert store.settled == []


def test_a_run_that_condemned_nothing_but_a_manifest_says_when_that_is_ripe(
    collected: Repository, store: Meanwhile, time: Time
) -> None:
    """Two captures of the same disk have one index, so the second keeps all that the first referred to."""
    for number in (1, 2):
        seal(collected, number, disk_of(b"a"))
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    began = time.now
    report = run(collected, time)
    assert report.condemned.objects == 0
    assert not list(store.names(FORGOTTEN))
    assert report.free_at is not None
    assert report.free_at > began + timedelta(hours=1)


def test_progress_counts_the_indexes_that_are_read_then_the_folders(collected: Repository, time: Time) -> None:
    for number, content in enumerate((b"a", b"b", b"c"), start=1):
        seal(collected, number, disk_of(content))
    told: list[Progress] = []
    run(collected, time, told.append)
    assert told[:3] == [Progress("reading indexes", number, 3) for number in (1, 2, 3)]
    assert told[3:] == [Progress("collecting", number, 512) for number in range(1, 513)]


def test_a_disk_that_was_made_smaller_is_collected_as_any_other(collected: Repository, time: Time) -> None:
    """The index before has more pieces than the one that is compared with it."""
    with collected.disk_writer(40_000 * CHUNK) as writer:
        writer.write_chunk(0, disk_of(b"a"))
        writer.write_chunk(39_999, disk_of(b"end"))
        large = writer.finish().digest
    collected.write_manifest(manifest_of(1, disk_capture(large, 40_000 * CHUNK)))
    small = seal(collected, 2, disk_of(b"a", b"b")).guests[0].disks[0].index
    store_disk(collected, disk_of(b"nobody's"))
    time.pass_(hours=2)
    report = run(collected, time)
    assert (report.chunks_kept, report.condemned.objects) == (3, 2)
    assert read_disk(collected, small) == disk_of(b"a", b"b")


@pytest.mark.parametrize("gone", [False, True], ids=["damaged too", "forgotten meanwhile"])
@pytest.mark.parametrize("how", PROTECTIONS)
def test_an_index_that_cannot_be_read_stops_a_run_unless_its_capture_is_gone(
    store: Meanwhile,
    time: Time,
    gone: bool,  # noqa: FBT001
    how: str,
) -> None:
    """A manifest that has become damaged is a capture's yet: nobody has forgotten it."""
    collected = protected(how, store)
    digest = bytes.fromhex(seal(collected, 1, disk_of(b"a")).guests[0].disks[0].index)
    protection = collected.objects.protection
    manifest = protection.manifest_name(capture_id(1))
    store.put_many([(protection.index_name(digest), b"damaged")])
    opened = store.open

    def meanwhile(name: str) -> BinaryIO:
        store.delete(manifest) if gone else store.put_many([(manifest, b"damaged")])
        return opened(name)

    store.open = meanwhile  # type: ignore[method-assign]
    if gone:
        assert run(collected, time).deleted.objects == 0
    else:
        with pytest.raises(CollectionStopped, match=capture_id(1)):
            run(collected, time)
