"""A host that has reported in a hold holds no guest in it any more, also if its journal does not have the first delivery."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from freezeframe.barrier import Gate
from freezeframe.contract import names
from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Consistency, Step
from freezeframe.settings import BusSettings
from tests.unit.workers.hold_site import CAPTURE, FREEZE, HOSTS, Site, proof_of
from workers.journal import CaptureJournal
from workers.steps import publication
from workers.steps.frame import run_step
from workers.steps.table import HOLD

pytestmark = pytest.mark.case("S6")
HERE, ELSEWHERE = HOSTS


@pytest.fixture
def site(tmp_path: Path, bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, bus_settings, monkeypatch)
    monkeypatch.setattr(publication, "PUBLISH_PAUSE_S", 0)
    yield made
    for host in made.hosts.values():
        host.redis.close()


def deliver(site: Site, *hosts: str, everyone: bool = False) -> None:
    def one(name: str) -> object:
        order = site.order(name, FREEZE, all_or_nothing=everyone)
        return run_step(site.hosts[name], HOLD, order.model_dump(mode="json"))

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(one, hosts))


def told(site: Site, name: str) -> HoldResult:
    text = site.hosts[ELSEWHERE].redis.hget(names.results_key(CAPTURE), names.result_field(Step.HOLD, name))
    return HoldResult.model_validate_json(str(text))


def full(trouble: pytest.MonkeyPatch, host_id: str) -> None:
    """The state directory of a host takes neither an order nor a result."""

    def fail_for(name: str) -> None:
        real: Any = getattr(CaptureJournal, name)

        def fails(journal: CaptureJournal, *words: Any) -> None:
            if f"/{host_id}/" in str(journal._directory):
                raise OSError(errno.ENOSPC, "No space left on device")
            real(journal, *words)

        trouble.setattr(CaptureJournal, name, fails)

    fail_for("record_begun")
    fail_for("store_result")


def arrive(site: Site, host_id: str, *meetings: str) -> None:
    for name in meetings:
        Gate(site.hosts[host_id].redis, CAPTURE, 1, name, host_id, len(HOSTS)).arrive()


def test_an_order_that_was_done_without_a_guest_and_comes_again_when_the_disk_has_room_holds_none(site: Site) -> None:
    """Nothing had the first delivery's answer, so the order was sent again, when the others' guests had been let go."""

    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    with pytest.MonkeyPatch.context() as trouble:
        full(trouble, HERE)
        trouble.setattr(site.hosts[HERE].redis, "pipeline", away)
        deliver(site, HERE, ELSEWHERE)
    deliver(site, HERE)
    assert [fake.log for fake in site.guests[HERE]] == [[], []]
    results = [told(site, name) for name in HOSTS]
    assert {one.fault.code for one in results[0].guest_faults} == {"reported"}
    assert results[0].proof is not None
    assert results[0].proof.guests == ()
    assert results[1].guest_faults == ()
    assert consistency(proof_of(results)) is Consistency.GROUP


@pytest.mark.parametrize("everyone", [True, False])
def test_a_host_whose_part_in_the_hold_is_over_holds_no_guest(site: Site, *, everyone: bool) -> None:
    for name in HOSTS:
        arrive(site, name, "muster", "held")
    deliver(site, HERE, everyone=everyone)
    assert [fake.log for fake in site.guests[HERE]] == [[], []]
    result = told(site, HERE)
    faults = [result.fault] if everyone else [one.fault for one in result.guest_faults]
    assert {fault.code for fault in faults if fault} == {"reported"}
    assert site.guards[HERE].armed == []
    held, let_go = site.journalled(HERE)
    assert sorted(held) == sorted(let_go)


@pytest.mark.parametrize("everyone", [True, False])
def test_a_report_of_another_delivery_between_the_question_and_the_barrier_is_not_taken_for_this_ones(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, everyone: bool
) -> None:
    """The other delivery could not lock the step, on a filesystem that was read-only, and arrived without a guest."""
    real = Gate.meet

    def meet(gate: Gate, deadline: float, visit: str = "") -> None:
        if gate._key.endswith(":held") and gate._member == HERE:
            arrive(site, HERE, "held")
            assert [fake.log for fake in site.guests[HERE]] != [[], []]  # they are held by now
        real(gate, deadline, visit)

    monkeypatch.setattr(Gate, "meet", meet)
    deliver(site, *HOSTS, everyone=everyone)
    results = [told(site, name) for name in HOSTS]
    faults = [one.fault for one in results[0].guest_faults]
    assert {fault.code for fault in [results[0].fault, *faults] if fault} == {"reported"}
    assert (results[0].fault is not None, len(faults)) == ((True, 0) if everyone else (False, 2))
    assert results[0].proof is not None
    assert results[0].proof.woken_ns is None
    assert results[1].proof is not None
    if not everyone:  # the report that was made stands, whenever the other host comes
        assert results[1].proof.woken_ns is not None
    assert consistency(proof_of(results)) is not Consistency.GROUP
    assert site.held_ones() == []


def test_a_report_of_another_delivery_stands_for_a_host_that_comes_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This delivery, told that its place is taken, does not break up the barrier at which the other host is still to arrive."""
    arrive(site, ELSEWHERE, "muster")
    real = Gate.meet

    def meet(gate: Gate, deadline: float, visit: str = "") -> None:
        if gate._key.endswith(":held"):
            arrive(site, HERE, "held")
        real(gate, deadline, visit)

    monkeypatch.setattr(Gate, "meet", meet)
    deliver(site, HERE)
    barrier = Gate(site.hosts[ELSEWHERE].redis, CAPTURE, 1, "held", ELSEWHERE, len(HOSTS))
    assert barrier.look().state == "open"
    assert barrier.arrive() == "released"
    assert {one.fault.code for one in told(site, HERE).guest_faults} == {"reported"}
    assert site.held_ones() == []


def test_redis_is_asked_before_any_host_holds_a_guest(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    real = Gate.has_arrived

    def has_arrived(gate: Gate, deadline: float) -> bool:
        asked.append((gate._member, Gate(site.hosts[HERE].redis, CAPTURE, 1, "muster", HERE, len(HOSTS)).look().so_far))
        return real(gate, deadline)

    monkeypatch.setattr(Gate, "has_arrived", has_arrived)
    deliver(site, *HOSTS)
    assert {member for member, _ in asked} == set(HOSTS)
    assert all(mustered < len(HOSTS) for _, mustered in asked)


def test_where_redis_does_not_say_whether_the_host_has_reported_it_holds_no_guest(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Gate.look

    def look(gate: Gate) -> Any:
        if gate._key.endswith(":held") and gate._member == HERE:
            raise redis.exceptions.NoPermissionError("NOPERM this user has no permissions")
        return real(gate)

    monkeypatch.setattr(Gate, "look", look)
    deliver(site, *HOSTS)
    assert [fake.log for fake in site.guests[HERE]] == [[], []]
    assert {one.fault.code for one in told(site, HERE).guest_faults} == {"reported"}
    assert told(site, ELSEWHERE).guest_faults == ()
    assert site.held_ones() == []


def test_a_redis_that_fails_over_before_the_muster_costs_no_guest_its_part(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = Gate.look, [redis.ConnectionError("away"), redis.exceptions.ReadOnlyError("a replica")]

    def look(gate: Gate) -> Any:
        if gate._key.endswith(":held") and gate._member == HERE and failures:
            raise failures.pop()
        return real(gate)

    monkeypatch.setattr(Gate, "look", look)
    deliver(site, *HOSTS)
    assert failures == []
    results = [told(site, name) for name in HOSTS]
    assert [one.guest_faults for one in results] == [(), ()]
    assert consistency(proof_of(results)) is Consistency.GROUP
