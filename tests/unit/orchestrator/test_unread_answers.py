"""What a host told could be read, and cannot be any more: it costs its guests, by name, and no others (invariants 10, 11)."""

from __future__ import annotations

import json

import pytest

from freezeframe.contract import names
from freezeframe.contract.plan import HostPlan
from freezeframe.contract.proof import HostProof
from freezeframe.contract.result import HoldResult, PrepareResult, TransferResult
from freezeframe.contract.words import Policy, RunState, Step
from freezeframe.repository import Repository
from orchestrator.look import Orchestrator
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import CAPTURE
from tests.unit.orchestrator.test_unsealable import DB, TARGETS, WEB, Disks, change, look, policy, run_of
from tests.unit.orchestrator.test_unsealable import disks as disks  # noqa: PLC0414  a fixture

NEWER, DAMAGED = '{"v": 2, "more": true}', "{"
HOST_B = "host-b"
#: What is there of the guest on host-b, by key and field.
PARTS = {
    "prepare": (names.results_key(CAPTURE), names.result_field(Step.PREPARE, HOST_B)),
    "hold": (names.results_key(CAPTURE), names.result_field(Step.HOLD, HOST_B)),
    "transfer": (names.results_key(CAPTURE), names.result_field(Step.TRANSFER, HOST_B, f"{DB}.vdb")),
    "definition": (names.definitions_key(CAPTURE), names.definition_field(HOST_B, DB)),
}


@pytest.fixture
def two_hosts(orchestrator: Orchestrator, disks: Disks) -> Orchestrator:
    """A run whose next look seals two guests, each on a host of its own."""
    assert set(disks.indexes) == {(guest, target) for guest in (WEB, DB) for target in TARGETS}
    redis, key = orchestrator.redis, names.results_key(CAPTURE)
    answers = orchestrator.runs.answers(CAPTURE)
    [prepared], [held] = answers.prepared, answers.held
    assert held.proof is not None
    for host_id, guest in (("host-a", WEB), (HOST_B, DB)):
        own = tuple(one for one in prepared.guests if one.guest_uuid == guest)
        put(orchestrator, names.result_field(Step.PREPARE, host_id), prepared, host_id=host_id, guests=own)
        steps = tuple(one for one in held.proof.guests if one.guest_uuid == guest)
        proof = HostProof.model_validate({**dict(held.proof), "host_id": host_id, "guests": steps})
        put(
            orchestrator,
            names.result_field(Step.HOLD, host_id),
            held,
            host_id=host_id,
            proof=proof,
            release_arrivals=2,
        )
    for one in answers.transferred:
        if one.guest_uuid == DB:
            part = f"{DB}.{one.target}"
            redis.hdel(key, names.result_field(Step.TRANSFER, "host-a", part))
            put(orchestrator, names.result_field(Step.TRANSFER, HOST_B, part), one, host_id=HOST_B)
    place = names.definitions_key(CAPTURE)
    text = redis.hget(place, names.definition_field("host-a", DB))
    redis.hset(place, names.definition_field(HOST_B, DB), str(text))
    redis.hdel(place, names.definition_field("host-a", DB))
    plan = run_of(orchestrator).plan or pytest.fail("no plan")
    [host] = plan.hosts
    hosts = tuple(
        HostPlan(host_id=host_id, guests=tuple(one for one in host.guests if one.guest_uuid == guest))
        for host_id, guest in (("host-a", WEB), (HOST_B, DB))
    )
    change(orchestrator, plan=plan.model_copy(update={"hosts": hosts}), members=("host-a", HOST_B))
    orchestrator.runs._told.forget(CAPTURE)  # as an orchestrator that was started since
    return orchestrator


def put(
    orchestrator: Orchestrator, field: str, result: PrepareResult | HoldResult | TransferResult, **update: object
) -> None:
    changed = result.model_copy(update=update)
    orchestrator.redis.hset(names.results_key(CAPTURE), field, changed.model_dump_json())


def sealed(repository: Repository) -> list[list[str]]:
    return [[guest.guest_uuid for guest in manifest.guests] for manifest in repository.manifests()]


def check_fault(run: Run, part: str, text: str) -> None:
    """The one fault says which guest of which host, what cannot be read and why, and what to do."""
    [fault] = run.faults
    assert (fault.code, fault.guest, fault.host) == ("unreadable-answer", "db 2", HOST_B)
    what = {"definition": "the definition of guest db 2"}.get(part, f"its answer to the order to {part}")
    why = "is of version 2" if text == NEWER else "cannot be read ("
    assert f"{what} {why}" in fault.message
    assert "`freezeframe version`" in fault.advice
    assert "maxmemory" not in fault.advice


def test_all_are_sealed_that_can_be_read(two_hosts: Orchestrator) -> None:
    assert look(two_hosts).faults == ()
    assert sealed(two_hosts.repository) == [[WEB, DB]]


@pytest.mark.parametrize("text", [NEWER, DAMAGED])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("wanted", list(Policy))
def test_at_the_seal_a_part_that_cannot_be_read_any_more_costs_its_guest(
    two_hosts: Orchestrator, part: str, text: str, wanted: Policy
) -> None:
    """It was told as one that Redis has lost, with advice about its memory, and the other guests were lost with it."""
    policy(two_hosts, wanted)
    two_hosts.redis.hset(*PARTS[part], text)
    run = look(two_hosts)
    check_fault(run, part, text)
    assert run.state is RunState.RELEASING
    assert sealed(two_hosts.repository) == ([[WEB]] if wanted is Policy.DEGRADE else [])


@pytest.mark.parametrize("wanted", list(Policy))
@pytest.mark.parametrize("state", [RunState.HOLDING, RunState.TRANSFERRING])
def test_before_that_an_answer_to_prepare_costs_its_guests_as_soon_as_the_state_ends(
    two_hosts: Orchestrator, state: RunState, wanted: Policy
) -> None:
    """And not after hours of transfers, at the seal."""
    policy(two_hosts, wanted)
    change(two_hosts, state=state)
    two_hosts.redis.hset(*PARTS["prepare"], NEWER)
    told = [RunState.TRANSFERRING] if state is RunState.HOLDING else []
    kept = (WEB,) if wanted is Policy.DEGRADE else ()
    seen: list[tuple[RunState, tuple[str, ...]]] = []
    real = two_hosts.runs.change

    def changed(run: Run, version: str, *, tell: bool = True) -> bool:
        if run.state is not state and not run.dispatched:
            seen.append((run.state, run.kept))
        return real(run, version, tell=tell)

    with pytest.MonkeyPatch.context() as watching:
        watching.setattr(two_hosts.runs, "change", changed)
        run = look(two_hosts)
    check_fault(run, "prepare", NEWER)
    assert seen[0] == ((*told, RunState.SEALING)[0] if kept else RunState.RELEASING, kept)
    assert sealed(two_hosts.repository) == ([[WEB]] if kept else [])


def test_a_guest_that_another_answer_has_told_is_not_concerned(two_hosts: Orchestrator) -> None:
    """One that has moved: the answer of its first round alone is damaged."""
    field = names.result_field(Step.PREPARE, HOST_B, "round1")
    two_hosts.redis.hset(names.results_key(CAPTURE), field, json.dumps({"v": 1}))
    assert look(two_hosts).faults == ()
    assert sealed(two_hosts.repository) == [[WEB, DB]]
