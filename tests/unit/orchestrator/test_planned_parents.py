"""What planning reads of the repository, and what it does about what it cannot read."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import REGISTRY
from ulid import ULID

from freezeframe import bus
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.plan import Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.config import Config
from freezeframe.repository.document import checked
from freezeframe.repository.errors import ManifestDamaged, RepositoryNotReadable
from freezeframe.repository.layout import OBJECT_BYTES_MAX
from freezeframe.repository.read_ahead import AT_ONCE
from freezeframe.repository.store.backend import Entry
from freezeframe.repository.store.filesystem import Filesystem
from freezeframe.settings import BusSettings
from orchestrator import admission, clocks, planning
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.parents import MOST_TOLD, Briefs, Parents, warnings_of
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import Sent
from tests.unit.repository.samples import CHUNK, GUEST, OTHER_GUEST, disk_capture, disk_of, manifest_of, store_disk
from tests.unit.repository.slow import FarStore

DISK = disk_capture("ab" * 32, CHUNK, checkpoint="cp")
CAPTURES = 5000


def sealed(orchestrator: Orchestrator) -> Manifest:
    """A capture of the guest with a checkpoint, sealed a while ago."""
    disk = disk_of(b"a")
    index = store_disk(orchestrator.repository, disk, checkpoint="cp")
    made = manifest_of(1, disk_capture(index, len(disk), checkpoint="cp"))
    orchestrator.repository.write_manifest(made)
    return made


def ask(orchestrator: Orchestrator, **more: Any) -> Run:
    request = CaptureRequest(capture_id=str(ULID()), guests=("web",))
    take_in(orchestrator, request, **more)
    admission.leave(orchestrator.redis, orchestrator.boards, request.capture_id)  # the next one is of the same guest
    run, _ = orchestrator.runs.load(request.capture_id) or pytest.fail("no run")
    return run


def flipped(whole: bytes) -> bytes:
    return whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]


def newer(whole: bytes) -> bytes:
    return checked({**json.loads(whole), "format": 2})


def oversized(path: Path) -> None:
    path.touch()
    os.truncate(path, OBJECT_BYTES_MAX + 1)


#: What a disk, another program or a hand puts among the manifests.
WAYS: dict[str, Callable[[Path, bytes], object]] = {
    "junk": lambda path, whole: path.write_bytes(b"junk"),
    "flipped": lambda path, whole: path.write_bytes(flipped(whole)),
    "newer": lambda path, whole: path.write_bytes(newer(whole)),
    "truncated": lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    "empty": lambda path, whole: path.write_bytes(b""),
    "oversized": lambda path, whole: oversized(path),
}


def counted() -> float:
    return REGISTRY.get_sample_value("freezeframe_unreadable_manifests_total") or 0.0


@pytest.mark.case("R3")
@pytest.mark.parametrize("age", ["older", "newer"])
@pytest.mark.parametrize("way", WAYS)
def test_one_manifest_that_cannot_be_read_refuses_no_capture_and_is_told(
    orchestrator: Orchestrator, tmp_path: Path, way: str, age: str
) -> None:
    made = sealed(orchestrator)
    broken = "00000000000000000000000000" if age == "older" else str(ULID())
    WAYS[way](tmp_path / "repository" / "manifests" / f"{broken}.json", made.to_json())
    before = counted()
    run = ask(orchestrator)
    assert (run.state, run.faults) == (RunState.PREPARING, ())
    assert run.plan is not None
    parents = run.plan.hosts[0].guests[0].parents
    assert [one.parent.capture_id for one in parents] == [made.capture_id]
    assert len(run.warnings) == 1
    assert broken in run.warnings[0]
    assert counted() == before + 1


@pytest.mark.case("R3")
@pytest.mark.parametrize("why", [errno.EACCES, errno.EIO])
def test_a_manifest_that_the_storage_refuses_is_passed_over_and_a_store_that_is_away_refuses(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    made, open_ = sealed(orchestrator), Filesystem.open
    refused = [f"{made.capture_id}.json"]

    def refusing(self: Filesystem, path: Path) -> io.RawIOBase:
        if path.name in refused:
            raise OSError(why, os.strerror(why), str(path))
        return open_(self, path)

    monkeypatch.setattr(Filesystem, "open", refusing)
    run = ask(orchestrator)
    assert run.state is RunState.PREPARING
    assert made.capture_id in run.warnings[0]
    assert os.strerror(why) in run.warnings[0]
    refused.append("config")
    run = ask(orchestrator)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.FAILED, [RepositoryNotReadable.code])


def test_many_that_cannot_be_read_are_counted_and_not_all_named() -> None:
    errors = [ManifestDamaged(f"Manifest {number} is not JSON.") for number in range(MOST_TOLD + 3)]
    told = warnings_of(errors, [])
    assert len(told) == MOST_TOLD + 1
    assert told[-1].startswith("3 more manifests cannot be read")
    assert warnings_of([], [GUEST])[0].startswith(f"Guest {GUEST} is in none")


# A bucket with 5,000 captures, 30 ms away.


def two_disks(number: int, guest: str) -> Manifest:
    return manifest_of(number, DISK, guest=guest)


@pytest.fixture(scope="module")
def captures() -> list[Manifest]:
    return [two_disks(number, OTHER_GUEST if number % 50 else GUEST) for number in range(1, CAPTURES + 1)]


@pytest.fixture
def far(captures: list[Manifest]) -> Iterator[Repository]:
    store = FarStore()
    store.put_away(captures)
    yield Repository(store, Config.model_validate({"id": GUEST, "chunk_bytes": 4096}))
    store.end()


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with bus.connect(bus_settings) as made:
        yield made


@pytest.mark.case("R8")
def test_the_parents_of_a_guest_that_is_captured_now_and_then_take_two_round_trips(
    far: Repository, client: redis.Redis
) -> None:
    store = far.store
    assert isinstance(store, FarStore)
    with Parents(far, client, Briefs(), {GUEST, OTHER_GUEST}, full=False) as parents:
        assert [one.parent.capture_id for one in parents.of(GUEST)] == [manifest_of(CAPTURES).capture_id]
        assert parents.of(OTHER_GUEST)
        assert store.rounds == 1
        assert store.gets <= 2 * AT_ONCE


@pytest.mark.case("R8")
def test_a_guest_that_was_never_captured_takes_a_round_trip_for_each_32_captures_and_then_none(
    far: Repository, client: redis.Redis
) -> None:
    store, briefs = far.store, Briefs()
    assert isinstance(store, FarStore)
    with Parents(far, client, briefs, {"new"}, full=False) as parents:
        assert parents.of("new") == []
    assert (store.gets, store.rounds) == (CAPTURES, -(-CAPTURES // AT_ONCE))
    with Parents(far, client, briefs, {"new", GUEST}, full=False) as parents:
        assert parents.of("new") == []
        assert len(parents.of(GUEST)) == 1
    assert store.gets == CAPTURES


def test_a_full_capture_reads_no_manifest(far: Repository, client: redis.Redis) -> None:
    store = far.store
    assert isinstance(store, FarStore)
    with Parents(far, client, Briefs(), {GUEST}, full=True) as parents:
        assert parents.of(GUEST) == []
    assert store.gets == 0


# What is remembered.

ENTRY = Entry("manifests/x.json", 10, datetime(2026, 1, 1, tzinfo=UTC))


def test_what_is_remembered_of_a_manifest_is_what_finding_parents_takes() -> None:
    whole = manifest_of(1, DISK)
    fat = whole.guests[0].model_copy(update={"domain_xml": "x" * 100_000, "warnings": ("w",)})
    briefs = Briefs(most_bytes=10_000)
    kept = briefs.keep(ENTRY, whole.model_copy(update={"guests": (fat,)}))
    found = briefs.get(whole.capture_id, ENTRY)
    assert found == kept
    assert found is not None
    assert found.guests[0].disks == (DISK,)
    assert found.guests[0].domain_xml == ""


@pytest.mark.parametrize(
    "other", [ENTRY._replace(size=11), ENTRY._replace(modified=ENTRY.modified + timedelta(seconds=1))]
)
def test_a_manifest_that_is_another_now_is_read_again(other: Entry) -> None:
    briefs = Briefs()
    briefs.keep(ENTRY, manifest_of(1, DISK))
    assert briefs.get(manifest_of(1).capture_id, other) is None


def test_if_there_are_too_many_the_oldest_captures_are_not_remembered() -> None:
    one = len(manifest_of(1, DISK).model_dump_json())
    briefs = Briefs(most_bytes=3 * one)
    for number in (5, 4, 3, 2, 1, 5, 5):
        briefs.keep(ENTRY, manifest_of(number, DISK))
    kept = [number for number in range(1, 6) if briefs.get(manifest_of(number).capture_id, ENTRY) is not None]
    assert kept == [3, 4, 5]


def test_a_capture_that_is_forgotten_is_no_parent_although_it_is_remembered(orchestrator: Orchestrator) -> None:
    made = sealed(orchestrator)
    assert ask(orchestrator).plan.hosts[0].guests[0].parents  # type: ignore[union-attr]
    orchestrator.repository.forget(made.capture_id)
    assert not ask(orchestrator).plan.hosts[0].guests[0].parents  # type: ignore[union-attr]


# The time that hosts have.


def plan_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have each plan take so long, by every clock."""
    passed = timedelta()
    plan, redis_time = planning.Planner._plan, clocks.redis_time

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + passed

    def slow(*of: Any) -> tuple[Plan, tuple[str, ...]]:
        nonlocal passed
        passed += timedelta(seconds=seconds)
        return plan(*of)

    monkeypatch.setattr(planning, "datetime", Clock)
    monkeypatch.setattr("orchestrator.look.datetime", Clock)
    monkeypatch.setattr(planning.Planner, "_plan", slow)
    monkeypatch.setattr(clocks, "redis_time", lambda answer: redis_time(answer) + passed)


@pytest.mark.case("R8")
def test_the_orders_time_begins_after_the_plan(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_for(monkeypatch, 169)
    before = datetime.now(UTC)
    run = ask(orchestrator)
    whole = timedelta(seconds=orchestrator.settings.prepare_timeout_s)
    planned = before + timedelta(seconds=169)
    assert planned <= run.entered_at
    assert run.due_at == run.entered_at + whole
    order = sent.orders[0]
    assert isinstance(order, PrepareOrder)
    assert order.not_after >= planned + whole


def test_a_caller_that_was_told_in_time_is_served_however_long_planning_takes(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He follows the run since it was recorded."""
    plan_for(monkeypatch, 300)
    run = ask(orchestrator, not_after_us=round((datetime.now(UTC).timestamp() + 30) * 1e6))
    assert (run.state, run.faults) == (RunState.PREPARING, ())
