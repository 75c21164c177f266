"""An order to hold that a host cannot read costs the others neither the muster's time nor, under `degrade`, their capture."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from freezeframe.barrier import Gate, GateReply
from freezeframe.contract import names
from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Consistency, Policy, RunState, Step
from orchestrator import decision
from tests.unit.orchestrator.test_decision import NOW, SETTINGS, run
from tests.unit.workers.hold_site import CAPTURE, HOSTS, Site, proof_of
from workers.steps import hold as step
from workers.steps.frame import run_step
from workers.steps.interruption import settle_interrupted
from workers.steps.table import HOLD

pytestmark = pytest.mark.case("S5", "S9")
HERE, ELSEWHERE = HOSTS
LONG_S = 60.0
MUSTER_S = 60.0
NOT_READ = "unreadable-order"

Change = Callable[[dict[str, Any]], object]


def sets(**fields: Any) -> Change:
    return lambda payload: payload.update(fields)


def lacks(name: str) -> Change:
    return lambda payload: payload.pop(name)


def in_a_guest(**fields: Any) -> Change:
    return lambda payload: payload["guests"][0].update(fields)


def payload_of(site: Site, change: Change, **changes: Any) -> dict[str, Any]:
    payload = site.order(HERE, hold_timeout_s=LONG_S, **changes).model_dump(mode="json")
    change(payload)
    return payload


def looks(site: Site) -> list[GateReply]:
    """What muster and barrier tell."""
    redis = site.hosts[HERE].redis
    return [Gate(redis, CAPTURE, 1, name, ELSEWHERE, len(HOSTS)).look() for name in ("muster", "held")]


def states(site: Site) -> list[str]:
    return [one.state for one in looks(site)]


def arrived(site: Site, host_id: str) -> list[bool]:
    """Return for muster and barrier whether a host has come, by those that have."""
    redis = site.hosts[HERE].redis
    gates = [Gate(redis, CAPTURE, 1, name, host_id, len(HOSTS)) for name in ("muster", "held")]
    return [gate.look().own_us is not None for gate in gates]


def told(site: Site) -> HoldResult | None:
    text = site.hosts[HERE].redis.hget(names.results_key(CAPTURE), names.result_field(Step.HOLD, HERE))
    return HoldResult.model_validate_json(str(text)) if text else None


def code(site: Site) -> str | None:
    result = told(site)
    return result.fault.code if result and result.fault else None


class Elsewhere:
    """The other host, which waits at the muster."""

    def __init__(self, site: Site, **changes: Any) -> None:
        self._answers: list[HoldResult | step.MusterError] = []
        self._order = site.order(ELSEWHERE, hold_timeout_s=LONG_S, **changes)
        self._host = site.hosts[ELSEWHERE]
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self._answers.append(step.hold(self._host, self._order))
        except step.MusterError as error:
            self._answers.append(error)

    def answer(self) -> HoldResult | step.MusterError:
        self._thread.join(LONG_S / 2)
        (answer,) = self._answers
        return answer


NEWER = [
    sets(colour="red"),
    sets(v=2),
    in_a_guest(colour="red"),
    in_a_guest(hold={"kind": "levitate"}),
    in_a_guest(hold=None),
    sets(slowest_hold_ms="soon"),
]
LITTLE = [
    lacks("repository_id"),
    lacks("members"),
    sets(members=0),
    sets(members=[HERE, "../else"], v=2),
    lacks("muster_timeout_s"),
    sets(hold_timeout_s="inf"),
    sets(not_after="soon"),
    lacks("all_or_nothing"),
    sets(all_or_nothing="perhaps"),
    lacks("guests"),
    sets(guests="all"),
    in_a_guest(guest_uuid="../../etc"),
    lambda payload: payload["guests"].append("web"),
]


@pytest.mark.parametrize(
    ("change", "everyone"),
    [*((one, True) for one in NEWER), *((one, flag) for one in LITTLE for flag in (True, False))],
)
def test_the_others_are_told_at_once_that_a_host_cannot_read_its_order(
    site: Site, change: Change, *, everyone: bool
) -> None:
    """They waited for all of the muster's 60 s, which is longer than this test waits."""
    elsewhere = Elsewhere(site, all_or_nothing=everyone)
    assert run_step(site.hosts[HERE], HOLD, payload_of(site, change, all_or_nothing=everyone))["ok"] is False
    assert isinstance(elsewhere.answer(), step.MusterError)
    assert states(site) == ["broken", "broken"]
    assert code(site) == NOT_READ
    assert all(fake.log == [] for fake in site.fakes.values())


@pytest.mark.parametrize("change", NEWER)
def test_under_degrade_it_meets_the_others_without_a_guest(site: Site, change: Change) -> None:
    waits = Elsewhere(site, all_or_nothing=False)
    payload = payload_of(site, change, all_or_nothing=False)
    assert run_step(site.hosts[HERE], HOLD, payload)["ok"] is True
    elsewhere, here = waits.answer(), told(site)
    assert isinstance(elsewhere, HoldResult)
    assert here is not None
    assert consistency(proof_of([here, elsewhere])) is Consistency.GROUP
    assert here.proof is not None
    assert here.proof.guests == ()
    assert [(one.guest_uuid, one.fault.code, one.fault.guest, one.fault.host) for one in here.guest_faults] == [
        (fake.uuid, NOT_READ, fake.label, HERE) for fake in site.guests[HERE]
    ]
    assert [fake.log for fake in site.guests[HERE]] == [[], []]
    assert site.guards[HERE].armed == []
    assert site.journalled(HERE) == ([], [])
    assert [fake.has_backup for fake in site.guests[ELSEWHERE]] == [True, True]
    state = run(RunState.HOLDING, Policy.DEGRADE, kept=tuple(site.fakes))
    following = decision.after_hold(state, [here, elsewhere], NOW, SETTINGS)
    assert following is not None
    assert following.kept == tuple(fake.uuid for fake in site.guests[ELSEWHERE])


def test_delivered_again_it_meets_nobody_again_and_is_answered_alike(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Elsewhere(site, all_or_nothing=False)
    payload = payload_of(site, sets(v=2), all_or_nothing=False)
    first = run_step(site.hosts[HERE], HOLD, payload)
    assert isinstance(waits.answer(), HoldResult)
    before = told(site)
    site.hosts[HERE].redis.delete(names.results_key(CAPTURE))
    monkeypatch.setattr(step, "ready", None)
    assert run_step(site.hosts[HERE], HOLD, payload) == first
    assert told(site) == before
    assert states(site) == ["released", "released"]


@pytest.mark.parametrize("change", [sets(v=2), lacks("members")])
def test_a_refused_order_is_in_the_journal_and_is_told_again_when_redis_has_lost_it(site: Site, change: Change) -> None:
    run_step(site.hosts[HERE], HOLD, payload_of(site, change))
    assert site.hosts[HERE].journal.of(CAPTURE).result(Step.HOLD, "") is not None


def test_an_order_that_is_late_too_breaks_up_and_meets_nobody(site: Site) -> None:
    waits = Elsewhere(site, all_or_nothing=False)
    past = datetime.now(UTC) - timedelta(seconds=1)
    payload = payload_of(site, sets(v=2), all_or_nothing=False, not_after=past)
    assert run_step(site.hosts[HERE], HOLD, payload)["ok"] is False
    assert isinstance(waits.answer(), step.MusterError)
    assert code(site) == "late-order"


@pytest.mark.parametrize("everyone", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (sets(host_id=ELSEWHERE, v=2), None),
        (sets(host_id=None), None),
        (sets(capture_id="../../etc"), None),
        (sets(epoch="soon"), NOT_READ),
        (sets(epoch=-1), NOT_READ),
        (lacks("epoch"), NOT_READ),
    ],
)
def test_an_order_that_names_no_meeting_of_this_host_breaks_none(
    site: Site, change: Change, said: str | None, *, everyone: bool
) -> None:
    assert run_step(site.hosts[HERE], HOLD, payload_of(site, change, all_or_nothing=everyone))["ok"] is False
    assert states(site) == ["open", "open"]
    assert code(site) == said


@pytest.mark.parametrize(
    ("change", "everyone"),
    [
        (sets(v=2), True),
        (in_a_guest(hold=None), True),
        (lacks("members"), True),
        (lacks("members"), False),
        (sets(guests=7), False),
    ],
)
def test_a_begun_order_that_cannot_be_read_ends_the_wait_when_a_worker_is_back(
    site: Site, change: Change, *, everyone: bool
) -> None:
    """Its process may have held guests: it has had its chance."""
    order = json.dumps(payload_of(site, change, all_or_nothing=everyone))
    waits = Elsewhere(site, all_or_nothing=everyone)
    site.hosts[HERE].journal.of(CAPTURE).record_begun(Step.HOLD, "", order)
    settle_interrupted(site.hosts[HERE], [HOLD])
    assert isinstance(waits.answer(), step.MusterError)
    assert states(site) == ["broken", "broken"]
    assert code(site) == NOT_READ


@pytest.mark.parametrize("change", [sets(v=2), in_a_guest(hold=None)])
def test_under_degrade_a_worker_that_is_back_arrives_for_a_begun_order_that_it_cannot_read(
    site: Site, change: Change
) -> None:
    """Whatever the dead process held is not in the proof."""
    order = json.dumps(payload_of(site, change, all_or_nothing=False))
    waits = Elsewhere(site, all_or_nothing=False)
    site.hosts[HERE].journal.of(CAPTURE).record_begun(Step.HOLD, "", order)
    settle_interrupted(site.hosts[HERE], [HOLD])
    assert isinstance(waits.answer(), HoldResult)
    assert states(site) == ["released", "released"]
    here = told(site)
    assert here is not None
    assert (here.fault, here.proof and here.proof.guests) in [(None, None), (None, ())]
    assert {one.fault.code for one in here.guest_faults} == {NOT_READ}
    assert [fake.log for fake in site.guests[HERE]] == [[], []]


def test_a_worker_that_is_back_arrives_for_no_other_host(site: Site) -> None:
    """Where a host has another host's order, that one has it too, and meets the others itself."""
    order = json.dumps(payload_of(site, sets(host_id=ELSEWHERE), all_or_nothing=False))
    site.hosts[HERE].journal.of(CAPTURE).record_begun(Step.HOLD, "", order)
    settle_interrupted(site.hosts[HERE], [HOLD])
    assert arrived(site, HERE) == arrived(site, ELSEWHERE) == [False, False]


def test_a_worker_that_is_back_arrives_for_a_host_that_began_last_and_holds_longest(site: Site) -> None:
    """That one waits for all of the muster's time, and then for all of the hold's."""
    past = datetime.now(UTC) - timedelta(seconds=MUSTER_S + LONG_S / 2)
    times = {"muster_timeout_s": MUSTER_S, "not_after": past}
    order = json.dumps(payload_of(site, sets(), all_or_nothing=False, **times))
    site.hosts[HERE].journal.of(CAPTURE).record_begun(Step.HOLD, "", order)
    settle_interrupted(site.hosts[HERE], [HOLD])
    assert arrived(site, HERE) == [True, True]
    assert arrived(site, ELSEWHERE) == [False, False]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_begun_order_that_is_no_order_at_all_is_answered_for_its_capture(site: Site, text: str) -> None:
    """Its place says whose it is; nothing says which meeting."""
    site.hosts[HERE].journal.of(CAPTURE).record_begun(Step.HOLD, "", text)
    settle_interrupted(site.hosts[HERE], [HOLD])
    assert code(site) == NOT_READ
    assert states(site) == ["open", "open"]


@pytest.mark.parametrize("change", [sets(), sets(v=2)])
def test_an_order_that_another_process_is_at_work_on_is_left_to_it(site: Site, change: Change) -> None:
    """It may be of the version that wrote the order."""
    journal = site.hosts[HERE].journal.of(CAPTURE)
    journal.record_begun(Step.HOLD, "", json.dumps(payload_of(site, change)))
    with journal.lock(Step.HOLD, ""):
        settle_interrupted(site.hosts[HERE], [HOLD])
    assert (told(site), states(site)) == (None, ["open", "open"])


@pytest.mark.parametrize("ended", [False, True])
def test_an_order_that_was_held_is_answered_from_the_journal_by_a_worker_that_cannot_read_it(
    site: Site, *, ended: bool
) -> None:
    """Neither its answer nor the meetings change, also when the capture has ended."""
    waits = Elsewhere(site)
    payload = payload_of(site, sets())
    assert run_step(site.hosts[HERE], HOLD, payload)["ok"] is True
    assert isinstance(waits.answer(), HoldResult)
    held = told(site)
    if ended:
        site.hosts[HERE].journal.of(CAPTURE).end()
    site.hosts[HERE].redis.delete(names.results_key(CAPTURE))
    assert run_step(site.hosts[HERE], HOLD, {**payload, "v": 2})["ok"] is True
    assert told(site) == held
    assert states(site) == ["released", "released"]


def test_an_ended_capture_is_not_met_for(site: Site) -> None:
    waits = Elsewhere(site, all_or_nothing=False)
    site.hosts[HERE].journal.of(CAPTURE).end()
    assert run_step(site.hosts[HERE], HOLD, payload_of(site, sets(v=2), all_or_nothing=False))["ok"] is False
    assert isinstance(waits.answer(), step.MusterError)
    assert code(site) == "late-order"


@pytest.mark.parametrize("payload", [None, [], "hold", 7])
def test_what_is_no_order_at_all_is_an_answer_and_no_crash(site: Site, payload: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        assert run_step(site.hosts[HERE], HOLD, payload)["ok"] is False
    assert [line["event"] for line in logs] == ["an order is not understood"]
    assert states(site) == ["open", "open"]
