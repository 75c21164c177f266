"""Orders and answers of each step, and what is decided by them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import PreparedGuest, PrepareResult, StorageUse
from freezeframe.contract.words import Policy, RunState, Step
from freezeframe.errors import EXIT_REPOSITORY
from freezeframe.presence import KnownHost
from freezeframe.settings import OrchestratorSettings
from orchestrator import decision, refused, search, sharing, touched
from orchestrator.again import lost_orders
from orchestrator.answers import Answers
from orchestrator.path import orders_of
from orchestrator.stall import Stalls
from orchestrator.transfers import expected_transfers
from tests.scale.capture import CAPTURE, NOW, ManyGuests
from tests.scale.counting import counted

Call = Callable[[], object]
SETTINGS: Final = OrchestratorSettings()
TROUBLE: Final = Fault(code="no-agent", message="The agent does not answer.")
GONE: Final = Fault(code="guest-gone", message="It does not run here.")
LATER: Final = NOW + timedelta(days=7)


def orders(state: RunState) -> Callable[[ManyGuests], Call]:
    def case(many: ManyGuests) -> Call:
        run, prepared = counted((many.run(state, sealed=True), many.prepared))
        return lambda: orders_of(run, prepared, LATER)

    return case


def after_prepare(many: ManyGuests) -> Call:
    run, prepared, hosts = counted((many.run(RunState.PREPARING), many.prepared, many.inventory))
    return lambda: decision.after_prepare(run, prepared, NOW, SETTINGS, hosts)


def _gone(many: ManyGuests) -> list[PrepareResult]:
    """Every guest has left its host."""
    return [
        one.model_copy(update={"guests": tuple(guest.model_copy(update={"fault": GONE}) for guest in one.guests)})
        for one in many.prepared
    ]


def after_prepare_with_guests_that_have_moved(many: ManyGuests) -> Call:
    """Each to the next host."""
    ids = many.host_ids
    moved = [
        KnownHost(host.entry.model_copy(update={"guests": many.inventory[number - 1].entry.guests}), alive=True)
        for number, host in enumerate(many.inventory)
    ]
    assert len(moved) == len(ids)
    run, prepared, hosts = counted((many.run(RunState.PREPARING), _gone(many), moved))
    return lambda: decision.after_prepare(run, prepared, NOW, SETTINGS, hosts)


def after_prepare_with_guests_that_nobody_runs(many: ManyGuests) -> Call:
    nothing = [KnownHost(host.entry.model_copy(update={"guests": ()}), alive=True) for host in many.inventory]
    seen = search.begin(many.run(RunState.PREPARING), nothing, NOW)
    run, prepared, hosts = counted((seen, _gone(many), nothing))
    assert run is not None
    return lambda: decision.after_prepare(run, prepared, NOW + timedelta(minutes=1), SETTINGS, hosts)


def after_hold(policy: Policy) -> Callable[[ManyGuests], Call]:
    def case(many: ManyGuests) -> Call:
        run, held, prepared = counted((many.run(RunState.HOLDING, policy), many.held, many.prepared))
        return lambda: decision.after_hold(run, held, NOW, SETTINGS, prepared)

    return case


def after_hold_without_a_word_of_most_guests(many: ManyGuests) -> Call:
    held = [
        one.model_copy(update={"proof": one.proof and one.proof.model_copy(update={"guests": ()})}) for one in many.held
    ]
    run, results, prepared = counted((many.run(RunState.HOLDING), held, many.prepared))
    return lambda: decision.after_hold(run, results, NOW, SETTINGS, prepared)


def after_transfer(many: ManyGuests) -> Call:
    run, results, prepared = counted((many.run(RunState.TRANSFERRING), many.transferred, many.prepared))
    return lambda: decision.after_transfer(
        run, results, expected_transfers(run, prepared), NOW, SETTINGS, prepared=prepared
    )


def after_transfer_of_hosts_that_have_stalled(many: ManyGuests) -> Call:
    """Half of the disks are not stored."""
    some = many.transferred[::2]
    run, results, prepared = counted((many.run(RunState.TRANSFERRING), some, many.prepared))
    stalled = counted(dict.fromkeys(many.host_ids, TROUBLE))
    return lambda: decision.after_transfer(
        run, results, expected_transfers(run, prepared), NOW, SETTINGS, stalled, prepared
    )


def after_release(many: ManyGuests) -> Call:
    run, results = counted((many.run(RunState.RELEASING, sealed=True), many.released))
    return lambda: decision.after_release(run, results, NOW, SETTINGS)


def transfers(many: ManyGuests) -> Call:
    run, prepared = counted((many.run(RunState.TRANSFERRING), many.prepared))
    return lambda: [(one.key, one.field) for one in expected_transfers(run, prepared)]


def answers(many: ManyGuests) -> Call:
    results = counted(many.results)
    return lambda: Answers.read(CAPTURE, results)


def answers_of_another_version(many: ManyGuests) -> Call:
    results = counted(dict.fromkeys(many.results, '{"v": 2}'))
    return lambda: Answers.read(CAPTURE, results)


def stalls(many: ManyGuests) -> Call:
    host_ids, pulses = counted((many.host_ids, {CAPTURE: many.pulses}))

    def call() -> None:
        known = Stalls()
        for now in (0.0, 100.0):
            known.see({CAPTURE: host_ids}, pulses, now)
        for host_id in host_ids:
            assert known.trouble(CAPTURE, host_id, "/r", SETTINGS, 100.0, late=False) is not None
        assert known.still(CAPTURE, 50.0, 100.0).keys() == many.pulses.keys()

    return call


def orders_to_send_again(many: ManyGuests) -> Call:
    """Each host has another worker, and half of the disks have no answer."""
    run, prepared = counted((many.run(RunState.TRANSFERRING), many.prepared))
    made = orders_of(run, prepared, LATER)
    answered = counted(dict(list(many.results.items())[::2]))
    now = counted(dict.fromkeys(many.host_ids, "second"))
    return lambda: lost_orders(Step.TRANSFER, made, answered.keys(), run.sent_to, now)


def shared_storage(many: ManyGuests) -> Call:
    """All guests have a disk of one image that they only read, and each host tells of a writer to storage of its own."""
    image = ("nfs s:/golden ",)

    def reading(one: PreparedGuest) -> PreparedGuest:
        return one.model_copy(update={"disks": (*one.disks, many.disk(one.guest_uuid, "vdr", readonly=True))})

    told = [
        one.model_copy(
            update={
                "guests": tuple(reading(guest) for guest in one.guests),
                "uses": tuple(
                    StorageUse(guest_uuid=guest.guest_uuid, guest=guest.name, target="vdr", shows=image, writes=image)
                    for guest in one.guests
                ),
            }
        )
        for one in many.prepared
    ]
    prepared, kept = counted((told, many.every_uuid))
    use = StorageUse(guest_uuid=many.every_uuid[0], guest="x", target="vdz", writes=("wwid own ",))
    later = counted([one.model_copy(update={"uses": (use,)}) for one in many.held])
    return lambda: (sharing.shared_faults(prepared), sharing.faults_since(prepared, kept, later))


def storage_that_all_write_to(many: ManyGuests) -> Call:
    """Every disk is refused: each guest writes to one LUN."""
    writing = [
        one.model_copy(
            update={
                "uses": tuple(
                    StorageUse(guest_uuid=guest.guest_uuid, guest="x", target="vdz", writes=("wwid naa.6001405 ",))
                    for guest in one.guests
                )
            }
        )
        for one in many.prepared
    ]
    prepared = counted(writing)
    return lambda: sharing.shared_faults(prepared)


def a_refused_run(many: ManyGuests) -> Call:
    away = Fault(code="x", message="x", exit_code=EXIT_REPOSITORY)
    told = [one.model_copy(update={"fault": away}) if number % 2 else one for number, one in enumerate(many.prepared)]
    run, prepared, held = counted((many.run(RunState.PREPARING), told, many.held))
    failed = run.model_copy(update={"state": RunState.FAILED, "faults": (TROUBLE,) * many.guests})
    return lambda: (refused.in_prepare(run, prepared), touched.failed(failed, held))
