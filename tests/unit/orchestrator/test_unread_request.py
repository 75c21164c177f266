"""A request of a newer client, or one that is damaged, is refused: its caller would be told that no orchestrator runs."""

from __future__ import annotations

import json
from typing import Any, NoReturn, cast

import pytest
import redis
from prometheus_client import REGISTRY
from ulid import ULID

from freezeframe.client import Client
from freezeframe.contract import names
from freezeframe.contract.event import EndEvent
from freezeframe.contract.request import CaptureRequest, Receipt
from freezeframe.contract.words import RunState, Step
from freezeframe.settings import BusSettings
from orchestrator import app, intake, unread_request
from orchestrator.look import Orchestrator
from orchestrator.unread_request import UnreadableRequestError, parsed
from tests.unit.orchestrator.one_run import CAPTURE, Sent

NESTED: Any = ()
for _ in range(100):
    NESTED = [NESTED]


@pytest.fixture
def own(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    monkeypatch.setattr(app, "orchestrator", lambda: orchestrator)
    return orchestrator


def request(**more: object) -> dict[str, Any]:
    made = CaptureRequest(capture_id=str(ULID()), guests=("web",), group="nightly")
    return made.model_dump(mode="json") | more


def answer(own: Orchestrator, capture_id: str) -> Receipt:
    """Return what the caller is told, who follows the id that it drew."""
    (loaded,) = [own.runs.load(capture_id)]
    assert loaded is not None
    run, _ = loaded
    assert run.state is RunState.FAILED
    [(_, fields)] = cast("list[tuple[str, dict[str, str]]]", own.redis.xrange(names.events_key(capture_id)))
    event = EndEvent.model_validate_json(fields["event"])
    assert event.receipt == run.receipt
    return event.receipt


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (request(deadline_s=60), r"deadline_s: Extra inputs are not permitted"),
        (request(v=2), "is of version 2, which is newer than this orchestrator"),
        (request(v=2, guests={"selector": "all"}), "is of version 2"),
        (request(method="replicate"), "method: "),
        (request(guests=[]), "name the guests to capture"),
        (request(guests=NESTED), "guests"),
        (request(tags=7, group=[]), "group"),
        (request(policy="x" * 10_000), "policy"),
        ({"capture_id": str(ULID())}, "name the guests"),
        (request(**{f"field{number}": 1 for number in range(1000)}), "field0"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_with_the_reason(
    own: Orchestrator, sent: Sent, payload: dict[str, Any], why: str
) -> None:
    payload = payload | {"capture_id": str(ULID())}
    app.intake(payload, None)
    [fault] = answer(own, payload["capture_id"]).faults
    assert (fault.code, fault.exit_code) == ("unreadable-request", 3)
    assert why in fault.message
    assert len(fault.message) < 600
    assert "`freezeframe version`" in fault.advice
    assert sent.steps == [Step.PREPARE]  # of the other run
    assert payload["capture_id"] not in own.runs.active()


def test_its_caller_hears_it_at_once(own: Orchestrator, bus_settings: BusSettings) -> None:
    payload = request(deadline_s=60)
    app.intake(payload, None)
    [event] = Client(bus_settings).follow(payload["capture_id"], pick_up_s=0)
    assert isinstance(event, EndEvent)
    assert event.receipt.faults[0].code == "unreadable-request"


def test_what_can_be_read_of_it_is_shown(own: Orchestrator) -> None:
    payload = request(deadline_s=60)
    app.intake(payload, None)
    (loaded, _) = own.runs.load(payload["capture_id"]) or (None, None)
    assert loaded is not None
    assert (loaded.request.guests, loaded.request.group) == (("web",), "nightly")


@pytest.mark.parametrize(
    ("positional", "named"),
    [((77, "more"), {}), ((77,), {"signature": "…"}), (("soon",), {}), ((True,), {}), (({},), {})],
)
def test_a_message_with_parts_that_are_not_known_is_refused(
    own: Orchestrator, positional: tuple[object, ...], named: dict[str, object]
) -> None:
    payload = request()
    app.intake(payload, *positional, **named)
    [fault] = answer(own, payload["capture_id"]).faults
    assert fault.code == "unreadable-request"


@pytest.mark.parametrize(
    "payload",
    [None, [], "text", 7, {}, {"capture_id": "none"}, {"capture_id": 7}, {"capture_id": NESTED}, {"capture_id": "01*"}],
)
def test_one_without_an_id_ends_nothing(own: Orchestrator, payload: object) -> None:
    before = sorted(own.redis.scan_iter())
    app.intake(payload, None)
    assert sorted(own.redis.scan_iter()) == before


def test_a_message_that_is_empty_ends_nothing(own: Orchestrator) -> None:
    app.intake()


def test_a_run_that_goes_on_is_not_ended_by_one_with_its_id(own: Orchestrator) -> None:
    app.intake(request(deadline_s=60) | {"capture_id": CAPTURE}, None)
    loaded = own.runs.load(CAPTURE)
    assert loaded is not None
    assert loaded[0].state is RunState.PREPARING


def failed() -> float:
    return REGISTRY.get_sample_value("freezeframe_captures_total", {"state": "failed"}) or 0.0


def test_twice_is_once(own: Orchestrator) -> None:
    """Also for who counts the captures that failed."""
    payload, before = request(deadline_s=60), failed()
    for _ in range(2):
        app.intake(payload, None)
    assert answer(own, payload["capture_id"]).state is RunState.FAILED
    assert failed() - before == 1


def test_a_request_that_is_nested_too_deeply_is_refused_as_such(
    own: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reading ends with an error of Python, which has no list of what is wrong."""
    payload = request()

    def too_deep(_: object) -> NoReturn:
        raise RecursionError("maximum recursion depth exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(CaptureRequest, "model_validate", too_deep)
        app.intake(payload, None)
    [fault] = answer(own, payload["capture_id"]).faults
    assert fault.code == "unreadable-request"
    assert "it is nested too deeply" in fault.message


@pytest.mark.case("S3")
def test_the_answer_outlives_refusals_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    def refusing(_orchestrator: object, payload: object, _error: object) -> None:
        told.append(payload)
        if len(told) < 3:
            raise redis.ResponseError("MISCONF Redis is configured to save RDB snapshots")

    monkeypatch.setattr(unread_request, "refuse", refusing)
    monkeypatch.setattr(intake, "PAUSE_S", 0)
    intake.refuse_patiently(cast("Orchestrator", None), {"a": 1}, UnreadableRequestError("why"))
    assert told == [{"a": 1}] * 3


def test_a_request_that_can_be_read_is_as_it_was() -> None:
    payload = request()
    assert parsed(json.loads(json.dumps(payload)), 77) == (CaptureRequest.model_validate(payload), 77)
