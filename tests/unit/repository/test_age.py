"""The order of captures follows the store's clock where an id's own time contradicts it (case S7)."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ulid import ULID

from freezeframe.contract.retention import Retention
from freezeframe.repository import Repository
from freezeframe.repository.age import CLOCKS_APART, asked_at, credible, newest_first
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.layout import manifest_name
from freezeframe.repository.series import plan

from .samples import CHUNK, disk_capture, manifest_of

pytestmark = pytest.mark.case("S7")

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def id_at(moment: datetime) -> str:
    return str(ULID.from_datetime(moment))


def test_an_id_tells_when_it_was_drawn() -> None:
    assert asked_at(id_at(NOW)) == NOW
    assert asked_at("7ZZZZZZZZZZZZZZZZZZZZZZZZZ") == datetime.max.replace(tzinfo=UTC)


def test_a_date_is_believed_unless_the_store_contradicts_it() -> None:
    assert credible(NOW, NOW) == NOW
    assert credible(NOW, NOW - CLOCKS_APART) == NOW
    assert credible(NOW, NOW + timedelta(days=400)) == NOW  # a repository that was copied
    assert credible(NOW + timedelta(days=400), NOW) == NOW


def test_a_capture_dated_ahead_stands_where_the_store_has_it() -> None:
    ahead = id_at(NOW + timedelta(days=400))
    before, after, last = (id_at(NOW + timedelta(hours=hours)) for hours in (-1, 1, 2))
    stored = {
        after: NOW + timedelta(hours=1),
        before: NOW - timedelta(hours=1),
        ahead: NOW,
        last: NOW + timedelta(hours=2),
    }
    assert newest_first(stored) == [last, after, ahead, before]


def test_a_copied_repository_keeps_its_order() -> None:
    ids = [id_at(NOW + timedelta(hours=hours)) for hours in range(5)]
    copied = NOW + timedelta(days=30)
    stored = {one: copied - timedelta(seconds=number) for number, one in enumerate(ids)}  # copied newest first
    assert newest_first(stored) == ids[::-1]


def test_latest_is_not_what_was_dated_ahead(tmp_path: Path) -> None:
    repository = Repository.init(tmp_path / "repository", chunk_bytes=CHUNK)
    ordinary = [id_at(NOW + timedelta(days=day)) for day in range(3)]
    ahead = id_at(NOW + timedelta(days=400))
    stored = {one: NOW + timedelta(days=day) for day, one in enumerate(ordinary)}
    stored[ahead] = NOW + timedelta(hours=1)
    for capture_id, moment in stored.items():
        put(tmp_path / "repository", capture_id, moment)
    assert repository.capture_ids() == [ordinary[2], ordinary[1], ahead, ordinary[0]]
    assert repository.capture_id("latest") == ordinary[2]


def put(root: Path, capture_id: str, moment: datetime) -> None:
    """Only a name and a time: an order needs no more, and reads no more."""
    path = root / manifest_name(capture_id)
    path.write_bytes(io.BytesIO().getvalue())
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def test_retention_does_not_count_an_instant_that_the_store_contradicts() -> None:
    """Redis's clock was a year ahead for one capture: also when that year is over it does not stand in for the newest."""
    disk = disk_capture("ab" * 32, CHUNK)
    manifests = [manifest_of(number, disk) for number in (1, 2, 3)]
    instants = [NOW, NOW + timedelta(days=365), NOW + timedelta(days=2)]
    stored = [NOW, NOW + timedelta(days=1), NOW + timedelta(days=2)]
    found = []
    for manifest, instant, moment in zip(manifests, instants, stored, strict=True):
        dated = manifest.model_copy(update={"instant": manifest.instant.model_copy(update={"at": instant})})
        found.append(Candidate.of(dated, moment))
    decided = plan(found, Retention(keep_last=1, series_by=frozenset()), NOW + timedelta(days=500))
    assert set(decided.kept) == {manifests[1].capture_id, manifests[2].capture_id}
    assert decided.forgotten == [manifests[0].capture_id]
