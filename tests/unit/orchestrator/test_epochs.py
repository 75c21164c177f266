"""Epochs after a clock that was ahead: hosts tell what they have seen, and the next capture goes above it (case S7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from ulid import ULID

from freezeframe import presence
from freezeframe.contract import names
from freezeframe.contract.epoch import MOST_SEEN
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState
from orchestrator import admission
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from tests.unit.repository.samples import GUEST
from workers.claims import Claims, StaleOrderError

pytestmark = pytest.mark.case("S7")

DEAD = "00000000-0000-4000-8000-00000000000d"


def now_us() -> int:
    return round(datetime.now(UTC).timestamp() * 1e6)


AHEAD_US = round(timedelta(hours=1).total_seconds() * 1e6)


def publish(orchestrator: Orchestrator, host_id: str, guest_uuid: str, highest: int, *, alive: bool = True) -> None:
    entry = HostEntry(
        host_id=host_id,
        at=datetime.now(UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=(GuestEntry(guest_uuid=guest_uuid, name=guest_uuid[-1], state="running"),),
        highest_epoch=highest,
    )
    presence.publish(orchestrator.redis, entry)
    if alive:
        orchestrator.redis.persist(names.alive_key(host_id))  # for as long as the test takes
    else:
        orchestrator.redis.delete(names.alive_key(host_id))


def epoch_of_next(orchestrator: Orchestrator) -> int:
    asked = str(ULID())
    take_in(orchestrator, CaptureRequest(capture_id=asked, guests=(GUEST,)))
    admission.leave(orchestrator.redis, orchestrator.boards, asked)  # the next one is of the same guest
    run, _ = orchestrator.runs.load(asked) or pytest.fail("no run")
    assert run.state is RunState.PREPARING
    assert run.plan is not None
    return run.plan.epoch


def test_a_capture_after_a_clock_that_was_ahead_is_not_refused(orchestrator: Orchestrator, tmp_path: Path) -> None:
    """Redis's machine was an hour ahead, was put right, and its Redis came back empty."""
    claims = Claims(tmp_path / "state")
    claims.fence(GUEST, now_us() + AHEAD_US)
    orchestrator.redis.flushall()
    publish(orchestrator, "host-a", GUEST, 0)
    with pytest.raises(StaleOrderError, match="ahead of the clock"):  # without what the host tells
        claims.fence(GUEST, epoch_of_next(orchestrator))
    publish(orchestrator, "host-a", GUEST, claims.highest_epoch())
    for _ in range(2):  # as advised: capture again
        claims.fence(GUEST, epoch_of_next(orchestrator))


def test_an_order_of_the_time_before_is_refused_still(orchestrator: Orchestrator, tmp_path: Path) -> None:
    """The run is lost with Redis, and its orders may come late: from a worker's own queue, or another orchestrator."""
    claims = Claims(tmp_path / "state")
    lost = now_us() + AHEAD_US
    claims.fence(GUEST, lost)
    orchestrator.redis.flushall()
    publish(orchestrator, "host-a", GUEST, claims.highest_epoch())
    claims.fence(GUEST, epoch_of_next(orchestrator))
    with pytest.raises(StaleOrderError):
        claims.fence(GUEST, lost)


@pytest.mark.parametrize("alive", [True, False])
def test_the_highest_of_all_hosts_counts_also_of_one_that_is_down(orchestrator: Orchestrator, *, alive: bool) -> None:
    """A guest of it may run elsewhere next, and it may come back with orders of then."""
    seen = now_us() + AHEAD_US
    publish(orchestrator, "host-a", GUEST, seen - 1)
    publish(orchestrator, "host-d", DEAD, seen, alive=alive)
    assert epoch_of_next(orchestrator) == seen + 1
    assert epoch_of_next(orchestrator) == seen + 2


def test_what_hosts_have_seen_in_the_past_changes_nothing(orchestrator: Orchestrator) -> None:
    publish(orchestrator, "host-a", GUEST, now_us() - AHEAD_US)
    before = now_us()
    assert before <= epoch_of_next(orchestrator) <= now_us()


def test_epochs_rise_above_the_highest_that_a_host_may_tell(orchestrator: Orchestrator) -> None:
    found = [orchestrator.runs.next_epoch(MOST_SEEN) for _ in range(3)]
    assert found == [MOST_SEEN + 1, MOST_SEEN + 2, MOST_SEEN + 3]
    publish(orchestrator, "host-a", GUEST, MOST_SEEN)
    assert epoch_of_next(orchestrator) == MOST_SEEN + 4


@pytest.mark.parametrize("told", [MOST_SEEN + 1, 2**53, -1])
def test_a_host_cannot_tell_one_after_which_epochs_would_not_rise(orchestrator: Orchestrator, told: int) -> None:
    with pytest.raises(ValidationError):
        publish(orchestrator, "host-a", GUEST, told)


def test_a_host_without_a_capture_yet_is_read_by_versions_that_do_not_know_of_epochs(
    orchestrator: Orchestrator,
) -> None:
    publish(orchestrator, "host-a", GUEST, 0)
    assert "highest_epoch" not in (orchestrator.redis.get(names.host_key("host-a")) or "")
