"""A run from its request to its end, look by look, on a real Redis and a real repository; the hosts' answers are the test's."""

from __future__ import annotations

from datetime import timedelta

import pytest
from ulid import ULID

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import ReleaseOrder
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import Consistency, RunState, Step
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository, Sessions
from freezeframe.repository.session import SessionState
from orchestrator import look, metrics, sessions
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from tests.unit.orchestrator.one_run import CAPTURE, VALID_S, Sent, hold, prepare, release, told, transfer
from tests.unit.repository.samples import CHUNK, GUEST, OTHER_GUEST


def test_a_run_goes_from_its_request_to_a_sealed_capture(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(metrics, "ended", lambda run: counted.append(str(run.state)))
    monkeypatch.setattr(metrics, "audited", lambda results: counted.append(f"{len(results)} transfers"))
    assert prepare(orchestrator).state is RunState.HOLDING
    assert hold(orchestrator).state is RunState.TRANSFERRING
    releasing = transfer(orchestrator)  # sealing needs nobody's answer
    assert (releasing.state, releasing.sealed, releasing.faults) == (RunState.RELEASING, True, ())
    assert orchestrator.repository.manifest(CAPTURE).consistency is Consistency.GROUP
    [order] = sent.orders
    assert isinstance(order, ReleaseOrder)
    assert order.sealed_guests == (GUEST,)
    assert order.not_after == releasing.entered_at + timedelta(seconds=VALID_S)
    assert counted == []
    ended = release(orchestrator)
    assert ended.state is RunState.DONE
    assert ended.receipt is not None
    assert (ended.receipt.consistency, ended.receipt.bytes_read) == (Consistency.GROUP, 2 * CHUNK)
    assert [one.guest for one in ended.receipt.guests] == ["web"]
    assert sent.steps == [Step.PREPARE, Step.HOLD, Step.TRANSFER, Step.RELEASE]
    states = ["asked", "preparing", "holding", "transferring", "sealing", "releasing", "end: done"]
    assert told(orchestrator) == states
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.SEALED
    assert orchestrator.runs.active() == []
    assert counted == ["done", "1 transfers"]
    orchestrator.look(CAPTURE)  # a chord's body that came late
    assert counted == ["done", "1 transfers"]
    assert told(orchestrator) == states


def test_a_capture_that_cannot_be_sealed_keeps_nothing_and_says_why(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FreezeframeError("The repository is full.")

    prepare(orchestrator)
    hold(orchestrator)
    monkeypatch.setattr(Repository, "seal", full)
    releasing = transfer(orchestrator)
    assert (releasing.state, releasing.sealed, releasing.kept) == (RunState.RELEASING, False, ())
    assert [fault.message for fault in releasing.faults] == ["The repository is full."]
    [order] = sent.orders
    assert isinstance(order, ReleaseOrder)
    assert order.sealed_guests == ()
    ended = release(orchestrator)
    assert ended.state is RunState.FAILED
    assert ended.receipt is not None
    assert (ended.receipt.consistency, ended.receipt.guests) == (None, ())
    assert told(orchestrator)[-1] == "end: failed"
    assert orchestrator.repository.manifests() == []


def test_a_transfer_is_waited_for(orchestrator: Orchestrator, sent: Sent) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    for _ in range(2):
        run = orchestrator.look(CAPTURE)
        assert run is not None
        assert run.state is RunState.TRANSFERRING
    assert sent.steps == [Step.PREPARE, Step.HOLD, Step.TRANSFER]


def test_a_guest_that_is_not_kept_any_more_is_not_waited_for(orchestrator: Orchestrator) -> None:
    """It was prepared and did not begin, so nobody is asked for its transfer."""
    assert prepare(orchestrator, OTHER_GUEST).kept == (GUEST, OTHER_GUEST)
    assert hold(orchestrator).kept == (GUEST,)
    assert transfer(orchestrator).sealed
    assert [guest.guest_uuid for guest in orchestrator.repository.manifest(CAPTURE).guests] == [GUEST]


def test_the_inventory_is_not_read_while_every_guest_is_where_it_was_planned(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: object) -> None:
        raise AssertionError("the inventory of all hosts is read")

    monkeypatch.setattr(look, "known_hosts", read)
    assert prepare(orchestrator).state is RunState.HOLDING


def test_a_run_that_is_not_there_is_looked_at_in_vain(orchestrator: Orchestrator, sent: Sent) -> None:
    assert orchestrator.look("01J" + CAPTURE[3:]) is None
    assert sent.steps == [Step.PREPARE]


def test_nothing_is_sent_again_for_a_run_whose_orders_were_not_sent(orchestrator: Orchestrator, sent: Sent) -> None:
    """They may be on their way just now; the reconciler sends them all, later."""
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    orchestrator.send_again(loaded[0].model_copy(update={"dispatched": False, "sent_to": {"host-a": "another"}}))
    assert sent.steps == [Step.PREPARE]


def test_a_run_without_orders_is_sent_to_nobody(orchestrator: Orchestrator, sent: Sent) -> None:
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    sealing = loaded[0].model_copy(update={"state": RunState.SEALING, "dispatched": True})
    orchestrator.dispatch(sealing)
    orchestrator.send_again(sealing)
    assert sent.steps == [Step.PREPARE]


def test_a_fault_of_the_reconciler_ends_a_run_that_waits_for_its_transfers(orchestrator: Orchestrator) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    run = orchestrator.look(CAPTURE, {"host-a": Fault(code="transfer-stalled", message="It does not move.")})
    assert run is not None
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.RELEASING, ["transfer-stalled"])


@pytest.mark.parametrize("sealed", [True, False])
def test_a_session_that_could_not_be_ended_with_its_run_is_ended_later(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, *, sealed: bool
) -> None:
    """The repository was away just then. Left open, the session would keep garbage for a week."""

    def away(*_: object, **__: object) -> None:
        raise FreezeframeError("The repository is away.")

    prepare(orchestrator)
    hold(orchestrator)
    if not sealed:
        monkeypatch.setattr(Repository, "seal", away)
    monkeypatch.setattr(Sessions, "end", away)
    transfer(orchestrator)
    run = release(orchestrator)
    if (
        not sealed
    ):  # its seal had begun, and may succeed as long as the session is open: that is asked until the run is due
        assert run.state is RunState.RELEASING
        waiting, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
        orchestrator.runs.change(waiting.model_copy(update={"due_at": waiting.entered_at}), version, tell=False)
        run = orchestrator.look(CAPTURE) or pytest.fail("no run")
    assert run.state is (RunState.DONE if sealed else RunState.FAILED)
    monkeypatch.undo()
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.OPEN
    sessions.end_left(orchestrator.repository, orchestrator.runs)
    ended = SessionState.SEALED if sealed else SessionState.FAILED
    assert orchestrator.repository.sessions.load(CAPTURE).state is ended


def test_the_session_of_a_run_that_goes_on_is_left_alone(orchestrator: Orchestrator) -> None:
    sessions.end_left(orchestrator.repository, orchestrator.runs)
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.OPEN


def test_a_refused_request_is_counted_once_however_often_it_is_asked(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(metrics, "ended", lambda run: counted.append(str(run.state)))
    refused = CaptureRequest(capture_id=str(ULID()), guests=("nobody",))
    take_in(orchestrator, refused)
    take_in(orchestrator, refused)
    assert counted == ["failed"]
