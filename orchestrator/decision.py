"""What the results of a step call for. Pure functions of a run and what its hosts have answered.

Each returns the run as it should be next, or None if it has to wait. Policy `all`: one failed part and nothing is kept. Policy
`degrade`: the rest goes on, and the label says what is proven of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from freezeframe.contract.fault import Fault
from freezeframe.contract.proof import Arrival, GuestProof, HostProof, Proof, failures
from freezeframe.contract.result import HoldResult, PrepareResult, ReleaseResult, SeenUses, TransferResult
from freezeframe.contract.words import Policy, RunState, Step
from freezeframe.presence import KnownHost
from freezeframe.settings import OrchestratorSettings
from orchestrator import manifest_size, search, sharing, touched, unexplained, unread_answers
from orchestrator.errors import NotProvenError
from orchestrator.run import Run
from orchestrator.transfers import Transfer

#: Seconds beyond muster and hold until a host counts as silent: letting go, verifying, and the way through the queue.
HOLD_SLACK_S = 30.0
#: States in which no host knows of a run: it may end at once.
UNBEGUN = frozenset({RunState.ASKED, RunState.QUEUED})
#: States in which a run cannot be cancelled any more.
TOO_LATE = frozenset({RunState.RELEASING, RunState.DONE, RunState.FAILED})
#: Codes of a host that gave up because another did, or because Redis was away: told behind the cause, if that is known.
CONSEQUENCES = frozenset({"muster", "barrier"})
#: No host and no transfer has stalled, as far as this look knows.
NO_STALLS: Final[Mapping[str, Fault]] = MappingProxyType({})


def enter(run: Run, state: RunState, now: datetime, settings: OrchestratorSettings, **changes: object) -> Run:
    """The run, come to a new state."""
    seconds = {
        RunState.ASKED: settings.plan_timeout_s,
        RunState.QUEUED: settings.queue_timeout_s,
        RunState.PREPARING: settings.prepare_timeout_s,
        RunState.HOLDING: run.request.muster_timeout_s + run.request.hold_timeout_s + HOLD_SLACK_S,
        RunState.TRANSFERRING: settings.transfers_s,
        RunState.SEALING: settings.seal_timeout_s,
        RunState.RELEASING: settings.release_timeout_s,
    }.get(state, 0.0)
    update = {
        "state": state,
        "entered_at": now,
        "due_at": now + timedelta(seconds=seconds),
        "dated_before": (),
        "dispatched": False,
        "lease": None,
        "sent_to": {},
        "search": None,
        "queued": None,
        # by its state too: an older orchestrator, which knows no such field, may have brought the run to its seal
        "seal_begun": run.seal_begun or RunState.SEALING in {state, run.state},
        **changes,
    }
    return run.model_copy(update=update)


def give_up(
    run: Run, fault: Fault, now: datetime, settings: OrchestratorSettings, troubled_s: float = 0.0
) -> Run | None:
    """Return a run that cannot be looked at as it is when its time is over; None while there is time, and once it has ended.

    What may be held or open on hosts is released, and nothing is kept. A run that releases ends. Transfers have days: no look
    at them for `transfer_store_s` is enough, for which backups may be open without need.
    """
    hopeless = run.state is RunState.TRANSFERRING and troubled_s > settings.transfer_store_s
    if run.state.ended or (now < run.due_at and not hopeless):
        return None
    if run.state in UNBEGUN:
        return enter(run, RunState.FAILED, now, settings, faults=(*run.faults, fault))
    if run.state is not RunState.RELEASING:
        return enter(run, RunState.RELEASING, now, settings, faults=(*run.faults, fault), kept=())
    state = RunState.DONE if run.sealed else RunState.FAILED
    return enter(run, state, now, settings, warnings=(*run.warnings, str(fault)))


def cancelled(run: Run, now: datetime, settings: OrchestratorSettings) -> Run | None:
    """Return the run without a capture if it was cancelled; None if it was not, or the step that it is in must end first.

    | cancelled while  | then                                                                                    |
    |------------------|-----------------------------------------------------------------------------------------|
    | asked, queued    | it has failed: no host knows of it                                                      |
    | preparing        | it releases; hosts that still prepare undo what they did                                |
    | holding          | the hold ends as ever, in seconds, and then it releases: nothing is transferred         |
    | transferring     | it releases                                                                             |
    | sealing          | it releases, unless the repository says that the capture is sealed (`seal_state`)       |
    | releasing, ended | it is too late                                                                          |
    """
    if run.cancelled is None or run.state is RunState.HOLDING or run.state in TOO_LATE:
        return None
    faults = (*run.faults, run.cancelled)
    if run.state in UNBEGUN:
        return enter(run, RunState.FAILED, now, settings, faults=faults)
    return enter(run, RunState.RELEASING, now, settings, faults=faults, kept=())


def after_prepare(
    run: Run,
    results: Sequence[PrepareResult],
    now: datetime,
    settings: OrchestratorSettings,
    hosts: Sequence[KnownHost] = (),
) -> Run | None:
    """Go on to hold the guests that are ready, or release what is prepared.

    `hosts` is the inventory of now, in which guests are looked for that are not where they were planned.
    """
    answers = [result for result in results if result.round == run.round]
    silent = unexplained.silent(run, Step.PREPARE, [host.host_id for host in run.to_prepare], answers, now)
    if silent is None:
        return None
    lost = search.lost_guests(run, results)
    looked_for = {one.guest_uuid for one in lost}
    faults = [*silent, *(result.fault for result in answers if result.fault)]
    faults += [
        guest.fault
        for result in answers
        for guest in result.guests
        if guest.fault and guest.guest_uuid not in looked_for
    ]
    faults += unexplained.not_prepared(run, answers)
    if faults and run.request.policy is Policy.ALL:  # it ends without them in any case
        return _end_prepare(run, results, [*faults, *(one.fault for one in lost)], now, settings)
    found = search.found_guests(lost, hosts)
    if len(found) < len(lost) and not search.is_over(run, lost, hosts, now):
        return search.begin(run, hosts, now)
    faults += search.standing_faults([one for one in lost if one.guest_uuid not in found], hosts)
    if not found or (faults and run.request.policy is Policy.ALL):
        return _end_prepare(run, results, faults, now, settings)
    return _next_round(run, found, faults, now, settings)


def _next_round(
    run: Run, found: Mapping[str, str], faults: Sequence[Fault], now: datetime, settings: OrchestratorSettings
) -> Run:
    """Have the found guests prepared where they run, in the same run and epoch."""
    assert run.plan is not None  # noqa: S101  a run is planned before it is prepared
    plan, moved = search.moved_plan(run.plan, found)
    faults_so_far = (*run.faults, *faults)
    changes = {"plan": plan, "moved": moved, "round": run.round + 1, "faults": faults_so_far}
    return enter(run, RunState.PREPARING, now, settings, **changes)


def _end_prepare(
    run: Run, results: Sequence[PrepareResult], faults: Sequence[Fault], now: datetime, settings: OrchestratorSettings
) -> Run:
    """Hold what is ready by any round and shares no disk with a guest on another host, or release."""
    shared = sharing.shared_faults([result for result in results if not result.fault])
    ready = {
        guest.guest_uuid: result.host_id
        for result in results
        if not result.fault
        for guest in result.guests
        if not guest.fault and guest.guest_uuid not in shared
    }
    faults = [*faults, *shared.values()]
    faults_so_far = (*run.faults, *faults)
    if not ready or (faults and run.request.policy is Policy.ALL):
        return enter(run, RunState.RELEASING, now, settings, faults=faults_so_far, kept=())
    if (too_large := manifest_size.check(results, ready)) is not None:
        return enter(run, RunState.RELEASING, now, settings, faults=(*faults_so_far, Fault.of(too_large)), kept=())
    return enter(
        run,
        RunState.HOLDING,
        now,
        settings,
        faults=faults_so_far,
        kept=tuple(ready),
        members=tuple(sorted(set(ready.values()))),
    )


def after_hold(
    run: Run,
    results: Sequence[HoldResult],
    now: datetime,
    settings: OrchestratorSettings,
    prepared: Sequence[PrepareResult] = (),
) -> Run | None:
    """Go on to transfer what is held and proven enough for the policy, or release.

    `prepared` has the disks to which guests of other hosts may write since. A guest of which it cannot be read takes no part.
    """
    silent = unexplained.silent(run, Step.HOLD, run.members, results, now)
    if silent is None:
        return None
    faults = [*silent, *(result.fault for result in results if result.fault)]
    faults += [guest.fault for result in results for guest in result.guest_faults]
    faults.sort(key=lambda fault: fault.code in CONSEQUENCES)  # the first fault is the one that callers see
    begun = frozenset(guest.guest_uuid for guest in _guests(results) if guest.begun_ns is not None)
    if (
        run.request.policy is not Policy.ALL or not faults
    ):  # of `all` the first fault ends the hold of every other guest
        faults += unexplained.not_held(run, results, begun, {fault.host for fault in silent if fault.host})
    shared = sharing.faults_since(prepared, begun, results)
    unread = unread_answers.without_prepare(run, prepared)
    faults += [*shared.values(), *unread.values()]
    kept = tuple(guest for guest in run.kept if guest in begun and guest not in shared and guest not in unread)
    if run.request.policy is Policy.ALL and not faults:
        lacking = failures(proof_of(run, results))
        faults += [Fault.of(NotProvenError(f"One instant is not proven: {reason}.")) for reason in lacking]
    faults_so_far = (*run.faults, *(touched.after_holding(faults) if silent or touched.held_any(results) else faults))
    if not kept or (faults and run.request.policy is Policy.ALL):
        return enter(run, RunState.RELEASING, now, settings, faults=faults_so_far, kept=())
    return enter(run, RunState.TRANSFERRING, now, settings, faults=faults_so_far, kept=kept)


def _guests(results: Sequence[HoldResult]) -> list[GuestProof]:
    return [guest for result in results if result.proof for guest in result.proof.guests]


def proof_of(run: Run, results: Sequence[HoldResult]) -> Proof:
    """All that the hosts saw, of the guests that began. A host that says nothing leaves a member without a record."""
    assert run.plan is not None  # noqa: S101  a run is planned before it is held
    hosts = [
        HostProof.model_validate(
            {
                **dict(result.proof),
                "guests": tuple(guest for guest in result.proof.guests if guest.begun_ns is not None),
            }
        )
        for result in results
        if result.proof
    ]
    arrivals = [
        Arrival(host_id=result.host_id, redis_us=result.arrived_us)
        for result in results
        if result.arrived_us is not None
    ]
    return Proof(
        epoch=run.plan.epoch,
        members=run.members,
        arrivals=tuple(sorted(arrivals, key=lambda one: (one.redis_us, one.host_id))),
        release_us=next((result.release_us for result in results if result.release_us is not None), None),
        release_arrivals=next((one.release_arrivals for one in results if one.release_arrivals is not None), None),
        hosts=tuple(sorted(hosts, key=lambda host: host.host_id)),
    )


def after_transfer(
    run: Run,
    results: Sequence[TransferResult],
    expected: Sequence[Transfer],
    now: datetime,
    settings: OrchestratorSettings,
    stalled: Mapping[str, Fault] = NO_STALLS,
    prepared: Sequence[PrepareResult] = (),
    seen: Sequence[SeenUses] = (),
) -> Run | None:
    """Go on to seal the guests whose disks are all stored, or release.

    `stalled` are the hosts whose transfers do not move any more, and single transfers by their fields, each with the reason.
    Under `degrade` all others are waited for; then each such disk without an answer is dropped, with a fault that names it.

    A guest with a disk to which a guest of another host has begun to write is as good as not stored, as is one of which the
    answer to prepare cannot be read any more. With policy `all` the
    first fault is enough: the guests need not wait for transfers that will not be kept.
    """
    shared = sharing.faults_since(prepared, run.kept, [*results, *seen])
    answered = {(result.guest_uuid, result.target) for result in results}
    missed = [one for one in expected if one.key not in answered]
    dropped = [(one, place) for one in missed for place in (one.host_id, one.field) if place in stalled]
    unread = unread_answers.without_prepare(run, prepared)
    found = [*(result.fault for result in results if result.fault), *unexplained.not_stored(results)]
    found += [*shared.values(), *unread.values()]
    if run.request.policy is Policy.ALL:
        found = [*(stalled[place] for place in dict.fromkeys(place for _, place in dropped)), *found]
        if found:
            faults = (*run.faults, *touched.after_holding(found))
            return enter(run, RunState.RELEASING, now, settings, faults=faults, kept=())
    if len(missed) > len(dropped):
        return None
    faults = touched.after_holding([*(one.dropped(stalled[place]) for one, place in dropped), *found])
    stored = {(result.guest_uuid, result.target) for result in results if result.index}
    lost = {one.guest.guest_uuid for one in expected if one.key not in stored} | set(shared) | set(unread)
    kept = tuple(guest for guest in run.kept if guest not in lost)
    state = RunState.SEALING if kept else RunState.RELEASING
    return enter(run, state, now, settings, faults=(*run.faults, *faults), kept=kept)


def without_unsealable(
    run: Run, unsealable: Sequence[tuple[str, Fault]], now: datetime, settings: OrchestratorSettings
) -> Run:
    """Go on to seal the other guests, within the same time, or release. `unsealable` are pairs of guest and fault."""
    faults = (*run.faults, *(fault for _, fault in unsealable))
    lost = {guest for guest, _ in unsealable}
    kept = tuple(guest for guest in run.kept if guest not in lost)
    if not kept or run.request.policy is Policy.ALL:
        return enter(run, RunState.RELEASING, now, settings, faults=faults, kept=())
    return run.model_copy(update={"faults": faults, "kept": kept})


def after_release(
    run: Run, results: Sequence[ReleaseResult], now: datetime, settings: OrchestratorSettings
) -> Run | None:
    """The end: done if the capture is sealed. Hosts that could not clean up are warned of; their recovery will."""
    assert run.plan is not None  # noqa: S101  a run is planned before it is released
    silent = unexplained.silent(run, Step.RELEASE, [host.host_id for host in run.plan.hosts], results, now)
    if silent is None:
        return None
    unclean = [*silent, *(result.fault for result in results if result.fault)]
    warnings = [f"{fault.message} {fault.advice}" for fault in unclean]
    warnings += [f"Not undone on host {result.host_id}: {text}." for result in results for text in result.warnings]
    state = RunState.DONE if run.sealed else RunState.FAILED
    return enter(run, state, now, settings, warnings=(*run.warnings, *warnings))
