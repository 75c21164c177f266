"""An order that was lost with the worker that had taken it is sent again; one that was not is left alone (case S11)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from freezeframe import bus, presence
from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.order import Order, TransferOrder
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedGuest, PrepareResult
from freezeframe.contract.words import RunState, Step
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, OrchestratorSettings
from orchestrator import again, dispatch, sessions
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Runs
from tests.unit.orchestrator.telling import tell
from tests.unit.orders import transfer_order

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
HOSTS = {"host-a": ALPHA, "host-b": BETA}
#: Later than any moment of a session of tests: it is computed when the file is read, and the tests may run an hour after that.
LATER = datetime.now(UTC) + timedelta(days=1)


class Queues:
    """Stands for the hosts' queues: what was sent, to whom."""

    def __init__(self) -> None:
        self.sent: list[tuple[Step, str]] = []

    def __call__(self, app: Celery, step: Step, orders: Sequence[Order]) -> None:
        assert isinstance(app, Celery)
        assert orders
        assert all(order.not_after > datetime.now(UTC) for order in orders)
        self.sent += [(step, order.host_id) for order in orders]

    def taken(self) -> list[tuple[Step, str]]:
        found, self.sent = self.sent, []
        return found


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> Queues:
    made = Queues()
    monkeypatch.setattr(dispatch, "send", made)
    return made


@pytest.fixture
def orchestrator(bus_settings: BusSettings, tmp_path: Path, queues: Queues) -> Iterator[Orchestrator]:
    with contextlib.closing(bus.connect(bus_settings)) as client:
        made = Orchestrator(
            app=bus.celery_app("orchestrator", bus_settings),
            redis=client,
            runs=Runs(client, 3600),
            settings=OrchestratorSettings(),
            repository=Repository.init(tmp_path / "repository"),
        )
        for host_id in HOSTS:
            publish(made, host_id, "first")
        take_in(made, CaptureRequest(capture_id=CAPTURE, every_guest=True))
        assert queues.taken() == [(Step.PREPARE, "host-a"), (Step.PREPARE, "host-b")]
        yield made


def publish(orchestrator: Orchestrator, host_id: str, control: str, data: str = "first") -> None:
    entry = HostEntry(
        host_id=host_id,
        at=datetime.now(UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=(GuestEntry(guest_uuid=HOSTS[host_id], name=host_id[-1], state="running"),),
        control_instance=control,
        data_instance=data,
    )
    presence.publish(orchestrator.redis, entry)
    orchestrator.redis.persist(names.alive_key(host_id))  # alive for as long as the test takes


def answer(orchestrator: Orchestrator, host_id: str) -> None:
    guest = PreparedGuest(guest_uuid=HOSTS[host_id], name=host_id[-1])
    result = PrepareResult(capture_id=CAPTURE, host_id=host_id, guests=(guest,))
    field = names.result_field(Step.PREPARE, host_id)
    tell(orchestrator.redis, CAPTURE, field, result)


def run_of(orchestrator: Orchestrator) -> Run:
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    return loaded[0]


@pytest.mark.case("S11")
def test_the_order_of_a_worker_that_was_killed_is_sent_to_its_successor_once(
    orchestrator: Orchestrator, queues: Queues
) -> None:
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert queues.taken() == []
    publish(orchestrator, "host-a", "second")
    reconciler.reconcile()
    assert queues.taken() == [(Step.PREPARE, "host-a")]
    Reconciler(orchestrator).reconcile()  # an orchestrator that was started anew knows it too
    assert queues.taken() == []
    publish(orchestrator, "host-a", "third")
    reconciler.reconcile()
    assert queues.taken() == [(Step.PREPARE, "host-a")]


@pytest.mark.case("S11")
def test_an_order_that_is_answered_is_not_sent_again(orchestrator: Orchestrator, queues: Queues) -> None:
    answer(orchestrator, "host-a")
    publish(orchestrator, "host-a", "second")
    Reconciler(orchestrator).reconcile()
    assert queues.taken() == []


@pytest.mark.case("S11")
def test_a_release_is_sent_again_while_backups_are_open(orchestrator: Orchestrator, queues: Queues) -> None:
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    releasing = run.model_copy(
        update={
            "state": RunState.RELEASING,
            "due_at": LATER,
            "dispatched": True,
            "sent_to": {"host-a": "first", "host-b": "first"},
        }
    )
    assert orchestrator.runs.change(releasing, version)
    publish(orchestrator, "host-b", "second")
    Reconciler(orchestrator).reconcile()
    assert queues.taken() == [(Step.RELEASE, "host-b")]


def test_a_new_state_s_orders_are_for_the_workers_of_that_time(orchestrator: Orchestrator, queues: Queues) -> None:
    publish(orchestrator, "host-a", "second")
    for host_id in HOSTS:
        answer(orchestrator, host_id)
    Reconciler(orchestrator).reconcile()
    assert queues.taken() == [(Step.HOLD, "host-a"), (Step.HOLD, "host-b")]
    assert run_of(orchestrator).sent_to == {"host-a": "second", "host-b": "first"}
    Reconciler(orchestrator).reconcile()
    assert queues.taken() == []


def test_orders_that_were_never_sent_are_sent_once(orchestrator: Orchestrator, queues: Queues) -> None:
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    unsent = run.model_copy(update={"dispatched": False, "sent_to": {}, "entered_at": long_ago})
    assert orchestrator.runs.change(unsent, version)
    publish(orchestrator, "host-a", "second")
    Reconciler(orchestrator).reconcile()
    assert queues.taken() == [(Step.PREPARE, "host-a"), (Step.PREPARE, "host-b")]


def test_what_is_sent_again_over_a_newer_state_is_not_noted(
    orchestrator: Orchestrator, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on while the orders are sent: its newer record stays."""

    def move_on(*_: object) -> None:
        run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
        assert orchestrator.runs.change(run.model_copy(update={"state": RunState.HOLDING}), version)

    monkeypatch.setattr(dispatch, "send", move_on)
    publish(orchestrator, "host-a", "second")
    orchestrator.send_again(run_of(orchestrator))
    assert (run_of(orchestrator).state, run_of(orchestrator).sent_to["host-a"]) == (RunState.HOLDING, "first")


def transfer(host_id: str) -> TransferOrder:
    return transfer_order(host_id=host_id, not_after=LATER)


@pytest.mark.case("S11")
def test_a_transfer_is_lost_with_the_data_worker_and_a_release_with_the_control_worker(
    orchestrator: Orchestrator,
) -> None:
    publish(orchestrator, "host-a", "control 2", "data 3")
    assert again.instances(orchestrator.redis, Step.TRANSFER, ["host-a", "host-x"]) == {"host-a": "data 3"}
    assert again.instances(orchestrator.redis, Step.RELEASE, ["host-a", "host-x"]) == {"host-a": "control 2"}
    publish(orchestrator, "host-a", "", "")
    assert again.instances(orchestrator.redis, Step.RELEASE, ["host-a"]) == {}


def test_what_counts_is_the_part_that_is_not_answered() -> None:
    orders = [transfer("host-a"), transfer("host-b")]
    field = names.result_field(Step.TRANSFER, "host-a", orders[0].part)
    sent_to, now = {"host-a": "1", "host-b": "1"}, {"host-a": "2", "host-b": "2"}
    assert again.lost_orders(Step.TRANSFER, orders, [field], sent_to, now) == [orders[1]]
    assert again.lost_orders(Step.TRANSFER, orders, [], sent_to, sent_to) == []
    assert again.lost_orders(Step.TRANSFER, orders, [], sent_to, {}) == []  # a host that says nothing is no new worker
    assert again.lost_orders(Step.TRANSFER, orders, [], {}, {"host-a": "1"}) == [orders[0]]


@pytest.mark.case("S5")
def test_a_run_that_cannot_be_read_is_not_forgotten_and_the_others_are_looked_at(
    orchestrator: Orchestrator, queues: Queues
) -> None:
    """A newer orchestrator wrote it, and is still at work on it; a run that is gone is forgotten."""
    newer, gone = "01J" + CAPTURE[3:], "01H" + CAPTURE[3:]
    orchestrator.redis.sadd(names.ACTIVE_RUNS_KEY, newer, gone)
    orchestrator.redis.hset(names.run_key(newer), mapping={"record": '{"v": 2}', "version": "1", "state": "melting"})
    publish(orchestrator, "host-a", "second")
    Reconciler(orchestrator).reconcile()
    assert orchestrator.runs.active() == [newer, CAPTURE]
    assert queues.taken() == [(Step.PREPARE, "host-a")]


@pytest.mark.case("S5")
def test_the_session_of_a_run_that_cannot_be_read_keeps_its_garbage(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PLANNED_BY_NOW", timedelta(0))
    for capture_id in (newer := "01J" + CAPTURE[3:], "01H" + CAPTURE[3:]):
        orchestrator.repository.sessions.begin(capture_id, sessions.PROGRAM)
    orchestrator.redis.hset(names.run_key(newer), mapping={"record": '{"v": 2}', "version": "1"})
    sessions.end_left(orchestrator.repository, orchestrator.runs)
    left = {one.session_id for one in orchestrator.repository.sessions.all() if one.ended_at is None}
    assert left == {newer, CAPTURE}
