"""A hold that somebody else cut short is noticed, and nothing is claimed for it (invariant 2). With libvirt's test driver."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest
import redis

from freezeframe import bus
from freezeframe.contract.doubts import doubts
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import GuestToHold, HoldOrder
from freezeframe.contract.proof import Proof, consistency
from freezeframe.contract.words import Consistency, HoldKind
from freezeframe.settings import BusSettings, HostSettings
from workers import durable
from workers import hold as holding
from workers.claims import Claims
from workers.host import Host
from workers.hypervisor import backup
from workers.hypervisor.connection import Hypervisor
from workers.journal import Journal
from workers.pace import Paces
from workers.steps import hold as step
from workers.steps.held_guest import HeldGuest

PAUSE = GuestHold(kind=HoldKind.PAUSE)


@pytest.fixture
def guest() -> HeldGuest:
    hypervisor = Hypervisor("test:///default")
    domain = hypervisor.domains()[0]
    apart = hypervisor.domain(domain.uuid)
    return HeldGuest(domain, apart, PAUSE, 1.0, (), backup_xml="", checkpoint_xml=None, agent_timeout_s=1)


def held(guest: HeldGuest) -> HeldGuest:
    """Held, as far as the test driver can; it has no backups to begin."""
    holding.take(guest.domain, PAUSE, 1)
    guest.hold_start_ns, guest.held_ns, guest.begun_ns = 1, 2, 3
    return guest


def test_letting_go_asks_nothing_over_the_connection_on_which_a_call_may_stand(guest: HeldGuest) -> None:
    held(guest)
    guest.domain.handle = None
    guest.let_go()
    guest.verify()
    assert guest.faults == []
    assert guest.thawed_ns is not None


def test_a_guest_that_stayed_held_was_not_cut_short(guest: HeldGuest) -> None:
    held(guest).let_go()
    guest.verify()
    assert guest.proof(lease_stood=True).cut_short is None
    assert guest.thawed_ns is not None


def test_a_guest_that_somebody_resumed_was_cut_short(guest: HeldGuest) -> None:
    held(guest)
    guest.domain.resume()
    guest.let_go()
    assert guest.proof(lease_stood=True).cut_short == "it was paused, and ran before it was resumed"


def test_a_guest_whose_lease_did_not_stand_was_cut_short(guest: HeldGuest) -> None:
    held(guest).let_go()
    assert guest.proof(lease_stood=False).cut_short == "the thaw guard let it go"


def test_a_guest_with_fewer_filesystems_thawed_than_frozen_was_cut_short(guest: HeldGuest) -> None:
    guest.frozen, guest.found = 2, holding.LetGo(thawed=0, was_paused=None)
    assert guest.proof(lease_stood=True).cut_short == "2 filesystems were frozen and 0 thawed"


def test_a_backup_that_cannot_begin_lets_its_guest_go_at_once(guest: HeldGuest) -> None:
    """The test driver has no backups, which is as good a failure as any."""
    guest.take()
    assert guest.begun_ns is None
    assert guest.domain.state() == "running"
    assert "beginning the backup" in guest.faults[0].message.lower()


def test_a_guest_told_to_go_before_its_hold_succeeded_does_not_stay_held(guest: HeldGuest) -> None:
    """The deadline passes while the hold is on its way: what then succeeds is taken back, and no backup is begun."""
    guest.let_go()
    guest.take()
    assert guest.domain.state() == "running"
    assert guest.begun_ns is None


class StandingGuard:
    """A guard's line that acknowledges everything."""

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def arm(self, *_: object) -> None: ...

    def disarm(self, _: str) -> bool:
        return True


@pytest.fixture
def a_host(tmp_path: Path, guest: HeldGuest, monkeypatch: pytest.MonkeyPatch) -> Callable[[BusSettings], Host]:
    """A host on that Redis, with one guest ready to be held."""
    durable.make_directory(tmp_path)
    monkeypatch.setattr(step, "GuardLine", StandingGuard)
    monkeypatch.setattr(step, "ready", lambda *_: [guest])

    def make(settings: BusSettings) -> Host:
        return Host(
            settings=HostSettings(host_id="host-a", state_dir=tmp_path, run_dir=tmp_path),
            bus=settings,
            repository=str(tmp_path / "repository"),
            hypervisor=Hypervisor("test:///default"),
            redis=bus.connect(settings),
            journal=Journal(tmp_path),
            claims=Claims(tmp_path),
            paces=Paces(tmp_path),
        )

    return make


@pytest.fixture
def order(guest: HeldGuest) -> HoldOrder:
    return HoldOrder(
        capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA",
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC),
        repository_id="r",
        members=("host-a",),
        guests=(GuestToHold(guest_uuid=guest.domain.uuid, hold=PAUSE),),
        muster_timeout_s=1,
        hold_timeout_s=1,
        all_or_nothing=True,
    )


def test_redis_s_clock_is_read_before_the_hold_and_after_it(
    guest: HeldGuest, order: HoldOrder, a_host: Callable[[BusSettings], Host], bus_settings: BusSettings
) -> None:
    proof = step.hold(a_host(bus_settings), order).proof
    assert proof is not None
    assert proof.clock_before is not None
    assert proof.clock_after is not None
    assert guest.thawed_ns is not None
    assert proof.clock_before.at_ns <= guest.hold_start_ns < guest.thawed_ns <= proof.clock_after.at_ns


def test_a_hold_as_it_is_measured_gives_no_doubts(
    order: HoldOrder,
    a_host: Callable[[BusSettings], Host],
    bus_settings: BusSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a real Redis and this machine's clock; the test driver lacks only the backup."""
    monkeypatch.setattr(backup, "begin", lambda *_: None)
    result = step.hold(a_host(bus_settings), order)
    assert result.proof is not None
    proof = Proof(
        epoch=1,
        members=("host-a",),
        arrivals=result.arrivals,
        release_us=result.release_us,
        release_arrivals=result.release_arrivals,
        hosts=(result.proof,),
    )
    assert doubts(proof) == []
    assert result.release_arrivals == 1
    assert consistency(proof) is Consistency.GROUP


def test_a_redis_that_does_not_tell_its_time_costs_no_guest_a_hold(
    guest: HeldGuest, order: HoldOrder, a_host: Callable[[BusSettings], Host]
) -> None:
    away = BusSettings.model_validate({"redis_url": "redis://127.0.0.1:1/0"})
    hasty = order.model_copy(update={"muster_timeout_s": 0.01})
    with pytest.raises(step.MusterError, match="Redis does not answer"):
        step.hold(a_host(away), hasty)
    assert guest.hold_start_ns == 0


def test_a_redis_that_is_away_after_the_hold_costs_the_proof_nothing_else(
    guest: HeldGuest,
    order: HoldOrder,
    a_host: Callable[[BusSettings], Host],
    bus_settings: BusSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(_: redis.Redis) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(step, "read_clock", away)
    result = step.hold(a_host(bus_settings), order)
    assert result.fault is None
    assert result.proof is not None
    assert result.proof.clock_before is not None
    assert result.proof.clock_after is None
    assert guest.domain.state() == "running"
