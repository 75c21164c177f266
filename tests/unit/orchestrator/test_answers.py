"""A host of another version answers: what cannot be read is an answer all the same, and at once (invariant 10)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from freezeframe import presence
from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import (
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    ReleaseResult,
    Result,
    StorageUse,
    TransferResult,
)
from freezeframe.contract.words import CaptureKind, Policy, RunState, Step
from orchestrator import unseen
from orchestrator.answers import Answers
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import CAPTURE, DISK, OTHER, Sent, hold, prepare, told, transfer
from tests.unit.repository.samples import GUEST, OTHER_GUEST

TARGET = f"{GUEST}.vda"
KINDS: dict[Step, type[Result]] = {
    Step.PREPARE: PrepareResult,
    Step.HOLD: HoldResult,
    Step.TRANSFER: TransferResult,
    Step.RELEASE: ReleaseResult,
}
DAMAGED = ["", "{", "[1]", "null", '"done"', '{"v": 1}', '{"v": 1, "capture_id": "x", "new": 1}', "[" * 100_000]


def newer(step: Step, host_id: str, capture_id: str = CAPTURE) -> str:
    """The answer of a host that has been updated: all that this version knows, and more."""
    known: dict[str, object] = {"v": 2, "capture_id": capture_id, "host_id": host_id, "fault": None, "checked": True}
    return json.dumps(known | ({"guest_uuid": GUEST, "target": "vda"} if step is Step.TRANSFER else {}))


def of_step(answers: Answers, step: Step) -> tuple[Result, ...]:
    return {
        Step.PREPARE: answers.prepared,
        Step.HOLD: answers.held,
        Step.TRANSFER: answers.transferred,
        Step.RELEASE: answers.released,
    }[step]


def put(orchestrator: Orchestrator, step: Step, text: str, part: str = "", host_id: str = "host-a") -> None:
    orchestrator.redis.hset(names.results_key(CAPTURE), names.result_field(step, host_id, part), text)


def looked_at(orchestrator: Orchestrator) -> Run:
    run = orchestrator.look(CAPTURE)
    assert run is not None
    return run


@pytest.mark.parametrize("step", list(Step))
def test_an_answer_to_one_step_is_not_taken_for_another_s(step: Step) -> None:
    """What all results have in common is enough for some of them: they are told apart by their fields alone."""
    bare = {"capture_id": CAPTURE, "host_id": "host-a", "guests": [], "guest_uuid": GUEST, "target": "vda"}
    known = {name: value for name, value in bare.items() if name in KINDS[step].model_fields}
    answers = Answers.read(CAPTURE, {names.result_field(step, "host-a"): json.dumps(known)})
    assert [one for one in Step if of_step(answers, one)] == [step]
    [result] = of_step(answers, step)
    assert result.fault is None


@pytest.mark.case("S5")
@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("text", [None, *DAMAGED])
def test_a_result_that_cannot_be_read_is_a_failed_step_of_that_host(step: Step, text: str | None) -> None:
    part = TARGET if step is Step.TRANSFER else ""
    field = names.result_field(step, "host-a", part)
    answers = Answers.read(CAPTURE, {field: newer(step, "host-a") if text is None else text})
    [result] = of_step(answers, step)
    assert isinstance(result, KINDS[step])
    assert (result.capture_id, result.host_id) == (CAPTURE, "host-a")
    assert result.fault is not None
    assert (result.fault.code, result.fault.host) == ("unreadable-answer", "host-a")
    assert result.fault.message.startswith("Host host-a has told what this orchestrator cannot read: ")
    why = "is of version 2 of the format, and this orchestrator reads version 1" if text is None else "cannot be read ("
    assert f"its answer to the order to {step} {why}" in result.fault.message
    assert "`freezeframe version`" in result.fault.advice
    assert [one for one in Step if of_step(answers, one)] == [step]


def test_the_round_and_the_disk_of_such_an_answer_are_in_its_field() -> None:
    answers = Answers.read(
        CAPTURE,
        {
            names.result_field(Step.PREPARE, "host-a", "round2"): "{}",
            names.result_field(Step.TRANSFER, "host-a", f"{OTHER_GUEST}.sdb"): "{}",
        },
    )
    assert [one.round for one in answers.prepared] == [2]
    assert [(one.guest_uuid, one.target, one.index) for one in answers.transferred] == [(OTHER_GUEST, "sdb", None)]


@pytest.mark.parametrize(
    "field", ["prepare/host-a/later", "prepare//", "transfer/host-a/", "transfer/host-a/x.vda", "hold/a b/", "prepare/"]
)
def test_a_field_of_no_order_is_nobody_s_answer(field: str) -> None:
    assert Answers.read(CAPTURE, {field: "{}"}) == Answers()


@pytest.mark.case("S5")
def test_a_newer_host_s_answer_to_prepare_ends_the_run_at_once(orchestrator: Orchestrator, sent: Sent) -> None:
    put(orchestrator, Step.PREPARE, newer(Step.PREPARE, "host-a"))
    run = looked_at(orchestrator)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.RELEASING, ["unreadable-answer"])
    assert sent.steps == [Step.PREPARE, Step.RELEASE]


@pytest.mark.case("S5")
def test_a_newer_host_s_answer_to_hold_ends_the_run_at_once(orchestrator: Orchestrator, sent: Sent) -> None:
    prepare(orchestrator)
    put(orchestrator, Step.HOLD, newer(Step.HOLD, "host-a"))
    run = looked_at(orchestrator)
    assert (run.state, run.faults[0].code, run.faults[0].host) == (RunState.RELEASING, "unreadable-answer", "host-a")
    assert sent.steps == [Step.PREPARE, Step.HOLD, Step.RELEASE]


@pytest.mark.case("S5")
@pytest.mark.parametrize("policy", list(Policy))
def test_a_newer_host_s_answer_to_transfer_ends_the_run_at_once(
    orchestrator: Orchestrator, sent: Sent, policy: Policy
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    degraded = run.model_copy(update={"request": run.request.model_copy(update={"policy": policy})})
    assert orchestrator.runs.change(degraded, version, tell=False)
    put(orchestrator, Step.TRANSFER, newer(Step.TRANSFER, "host-a"), TARGET)
    run = looked_at(orchestrator)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.RELEASING, ["unreadable-answer"])
    assert sent.steps[-1] is Step.RELEASE


@pytest.mark.case("S5")
def test_a_newer_host_s_answer_to_release_costs_a_sealed_capture_a_warning(orchestrator: Orchestrator) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    transfer(orchestrator)
    put(orchestrator, Step.RELEASE, newer(Step.RELEASE, "host-a"))
    receipt = looked_at(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, receipt.faults) == (RunState.DONE, ())
    [warning] = receipt.warnings
    assert "Host host-a has told what this orchestrator cannot read" in warning
    assert "`freezeframe version`" in warning
    assert told(orchestrator)[-1] == "end: done"


@pytest.mark.case("S5", "S1")
@pytest.mark.parametrize("policy", list(Policy))
def test_the_others_go_on_without_a_newer_host_under_degrade(
    orchestrator: Orchestrator, sent: Sent, policy: Policy
) -> None:
    entry = HostEntry(
        host_id="host-b",
        at=datetime.now(UTC),
        freezeframe_version="1",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=(GuestEntry(guest_uuid=OTHER_GUEST, name="db", state="running"),),
    )
    presence.publish(orchestrator.redis, entry)
    orchestrator.redis.persist(names.alive_key("host-b"))
    take_in(orchestrator, CaptureRequest(capture_id=OTHER, every_guest=True, policy=policy))
    disk = PreparedDisk(target="vda", source="/d", source_format="raw", size_bytes=len(DISK), kind=CaptureKind.FULL)
    own = PrepareResult(
        capture_id=OTHER, host_id="host-a", guests=(PreparedGuest(guest_uuid=GUEST, name="web", disks=(disk,)),)
    )
    fields = {
        names.result_field(Step.PREPARE, "host-a"): own.model_dump_json(),
        names.result_field(Step.PREPARE, "host-b"): newer(Step.PREPARE, "host-b", OTHER),
    }
    for field, text in fields.items():
        orchestrator.redis.hset(names.results_key(OTHER), field, text)
    run = orchestrator.look(OTHER)
    assert run is not None
    assert [(fault.code, fault.host) for fault in run.faults] == [("unreadable-answer", "host-b")]
    goes_on = policy is Policy.DEGRADE
    assert (run.state, run.kept) == ((RunState.HOLDING, (GUEST,)) if goes_on else (RunState.RELEASING, ()))
    assert sent.steps[-1] is (Step.HOLD if goes_on else Step.RELEASE)


@pytest.mark.case("S5", "P2")
def test_a_host_whose_hold_cannot_be_read_leaves_it_open_who_writes_to_the_others_disks(
    orchestrator: Orchestrator,
) -> None:
    run = prepare(orchestrator)
    use = StorageUse(guest_uuid=GUEST, guest="web", target="vda", shows=("wwid:1",), writes=("wwid:1",))
    disk = PreparedDisk(target="vda", source="/d", source_format="raw", size_bytes=1, kind=CaptureKind.FULL)
    prepared = PrepareResult(
        capture_id=CAPTURE,
        host_id="host-a",
        guests=(PreparedGuest(guest_uuid=GUEST, name="web", disks=(disk,)),),
        uses=(use,),
    )
    held = Answers.read(CAPTURE, {names.result_field(Step.HOLD, "host-b"): newer(Step.HOLD, "host-b")}).held
    [found] = unseen.unseen_since(run, [prepared], held)
    assert (found.guest_uuid, found.target) == (GUEST, "vda")
    assert "not known whether a guest of host host-b writes" in found.warning
