"""A dispatch has a lease: the orders of a state are sent by one look at a time, however long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from freezeframe.contract.order import Order
from freezeframe.contract.words import Step
from orchestrator import dispatch, lease
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Lease, Run
from tests.unit.orchestrator.one_run import CAPTURE, Sent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Sender:
    """Sends to nobody, and has something else happen the first time."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.times = 0
        self._meanwhile = meanwhile

    def __call__(self, app: Celery, step: Step, orders: Sequence[Order]) -> None:
        assert isinstance(app, Celery)
        assert (step, [order.host_id for order in orders]) == (Step.PREPARE, ["host-a"])
        self.times += 1
        if self.times == 1:
            self._meanwhile()


def run_of(orchestrator: Orchestrator) -> Run:
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    return loaded[0]


def unsent(orchestrator: Orchestrator, **changes: object) -> Run:
    """Return the run as it is long after it came to its state, without its orders sent."""
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    update = {"dispatched": False, "sent_to": {}, "entered_at": long_ago, **changes}
    assert orchestrator.runs.change(run.model_copy(update=update), version)
    return run_of(orchestrator)


def test_a_dispatch_that_takes_long_is_not_sent_beside_itself(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender(lambda: Reconciler(orchestrator).reconcile())
    monkeypatch.setattr(dispatch, "send", sender)
    orchestrator.dispatch(unsent(orchestrator))
    assert sender.times == 1
    assert (run_of(orchestrator).dispatched, run_of(orchestrator).lease) == (True, None)


def test_of_two_looks_that_dispatch_one_sends(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    run = unsent(orchestrator)
    sender = Sender(lambda: orchestrator.dispatch(run))
    monkeypatch.setattr(dispatch, "send", sender)
    orchestrator.dispatch(run)
    orchestrator.dispatch(run)  # and a third, which comes when all is sent
    assert sender.times == 1


def test_orders_are_sent_again_by_one_look(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    run = unsent(orchestrator, dispatched=True, sent_to={"host-a": "first"})
    monkeypatch.setattr("orchestrator.again.instances", lambda *_: {"host-a": "second"})
    sender = Sender(lambda: Reconciler(orchestrator).reconcile())
    monkeypatch.setattr(dispatch, "send", sender)
    orchestrator.send_again(run)
    assert sender.times == 1
    assert run_of(orchestrator).sent_to == {"host-a": "second"}


def test_a_lease_is_in_the_record_while_orders_are_sent(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Lease | None] = []
    monkeypatch.setattr(dispatch, "send", Sender(lambda: seen.append(run_of(orchestrator).lease)))
    orchestrator.dispatch(unsent(orchestrator))
    assert [one and (one.by, one.seconds) for one in seen] == [(lease.take(0, NOW).by, 10.02)]


def test_a_dispatch_is_noted_although_the_record_was_changed_meanwhile(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn() -> None:
        run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
        assert orchestrator.runs.warn(run, version, "slow")

    monkeypatch.setattr(dispatch, "send", Sender(warn))
    orchestrator.dispatch(unsent(orchestrator))
    run = run_of(orchestrator)
    assert (run.dispatched, run.lease, run.warnings) == (True, None, ("slow",))


def test_the_orders_of_an_orchestrator_that_has_ended_are_sent_when_its_lease_has_run_out(
    orchestrator: Orchestrator, sent: Sent
) -> None:
    now = datetime.now(UTC)
    unsent(orchestrator, lease=Lease(by="gone/1", since=now, seconds=3600))
    Reconciler(orchestrator).reconcile()
    assert sent.steps == [Step.PREPARE]  # from the fixture
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    over = run.model_copy(update={"lease": Lease(by="gone/1", since=now - timedelta(hours=1), seconds=3599)})
    assert orchestrator.runs.change(over, version)
    Reconciler(orchestrator).reconcile()
    assert sent.steps == [Step.PREPARE] * 2
    assert (run_of(orchestrator).dispatched, run_of(orchestrator).lease) == (True, None)


def test_orders_that_redis_refuses_are_sent_by_the_next_look(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OperationalError("Redis refuses")

    sender = Sender(refuse)
    monkeypatch.setattr(dispatch, "send", sender)
    run = unsent(orchestrator)
    with pytest.raises(OperationalError):
        orchestrator.dispatch(run)
    assert (run_of(orchestrator).dispatched, run_of(orchestrator).lease) == (False, None)
    Reconciler(orchestrator).reconcile()
    assert sender.times == 2
    assert run_of(orchestrator).dispatched


@pytest.mark.parametrize(
    ("age_s", "lease_age_s", "dispatched", "due"),
    [
        (9, None, False, False),  # the look that changed the state is about to take the lease
        (11, None, False, True),
        (11, None, True, False),
        (11, 9, False, False),
        (3600, 9, False, False),
        (3600, 10, False, True),
        (1, 10, False, True),
        (3600, -1, False, True),  # the clock was set back
        (3600, 10, True, False),
    ],
)
def test_when_another_look_sends(
    orchestrator: Orchestrator, age_s: int, lease_age_s: int | None, *, dispatched: bool, due: bool
) -> None:
    taken = None if lease_age_s is None else Lease(by="x", since=NOW - lease_age_s * SECOND, seconds=10)
    changes = {"entered_at": NOW - age_s * SECOND, "lease": taken, "dispatched": dispatched}
    assert lease.is_due(run_of(orchestrator).model_copy(update=changes), NOW) is due


def test_a_lease_is_as_long_as_its_orders_are_many() -> None:
    assert [lease.take(count, NOW).seconds for count in (0, 1, 20_000)] == [10.0, 10.02, 410.0]


def test_a_record_without_a_lease_is_one_that_older_versions_read(orchestrator: Orchestrator) -> None:
    assert '"lease"' not in run_of(orchestrator).model_dump_json()
