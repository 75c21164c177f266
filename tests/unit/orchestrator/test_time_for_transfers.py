"""How long all transfers of a capture may take (D11 of the orchestrator's review): as long as they move."""

from __future__ import annotations

from datetime import timedelta

import pytest

from freezeframe.contract import names
from freezeframe.contract.words import Policy, RunState
from freezeframe.settings import DAY_S, SEALED_WITHIN_S, OrchestratorSettings
from orchestrator import decision
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from tests.scale.capture import NOW, ManyGuests
from tests.unit.orchestrator import test_stall
from tests.unit.orchestrator.test_stall import CAPTURE, GUESTS, Clock, answer, beat, change, run_of

clock, orchestrator = test_stall.clock, test_stall.orchestrator

MANY = ManyGuests(3, 2, 2)


def began(settings: OrchestratorSettings) -> Run:
    following = decision.after_hold(MANY.run(RunState.HOLDING), MANY.held, NOW, settings, MANY.prepared)
    assert following is not None
    assert following.state is RunState.TRANSFERRING
    return following


def test_a_capture_has_as_long_as_its_session_leaves_it() -> None:
    """A host's own limit, and the captures before it in its queue, are known to nobody ahead."""
    settings = OrchestratorSettings()
    assert began(settings).due_at == NOW + timedelta(seconds=settings.transfers_s)
    assert settings.transfers_s > 6 * DAY_S
    assert settings.transfers_s + settings.seal_timeout_s + 3 * settings.prepare_timeout_s < SEALED_WITHIN_S


@pytest.mark.parametrize("seconds", [60.0, DAY_S])
def test_or_as_long_as_somebody_says(seconds: float) -> None:
    assert began(OrchestratorSettings(transfer_timeout_s=seconds)).due_at == NOW + timedelta(seconds=seconds)


def test_settings_that_just_fit_into_a_session_leave_what_they_say() -> None:
    assert OrchestratorSettings(transfer_timeout_s=6 * DAY_S, seal_timeout_s=DAY_S / 2).transfers_s == 6 * DAY_S


def pass_hours(orchestrator: Orchestrator, clock: Clock, reconciler: Reconciler, hours: int, *moving: str) -> None:
    """Let hours go by, in which these transfers move each minute."""
    for minutes in range(hours * 60):
        clock.now_s += 60
        for field in moving:
            orchestrator.redis.hset(names.pulse_key(CAPTURE), field, f"{clock.now_s} 0")
        if minutes % 10 == 0:
            reconciler.reconcile()
    reconciler.reconcile()


@pytest.mark.parametrize("policy", list(Policy))
def test_a_transfer_that_hangs_is_given_up_alone_while_others_on_its_host_move(
    orchestrator: Orchestrator, clock: Clock, policy: Policy
) -> None:
    """As that of a guest whose QEMU is suspended. It would have a place on its host, and its backup open, for days."""
    request = run_of(orchestrator).request.model_copy(update={"policy": policy})
    change(orchestrator, request=request)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()  # both have told something once
    other = names.pulse_field("host-a", f"{GUESTS['host-b']}.vdz")  # of another capture, as far as the host goes
    moving = names.pulse_field("host-b", f"{GUESTS['host-b']}.vda")
    pass_hours(orchestrator, clock, reconciler, 1, other, moving)
    assert run_of(orchestrator).state is RunState.TRANSFERRING
    pass_hours(orchestrator, clock, reconciler, 1, other, moving)
    if policy is Policy.DEGRADE:
        assert run_of(orchestrator).state is RunState.TRANSFERRING  # host-b reads still
        answer(orchestrator, "host-b")
        reconciler.reconcile()
    run = run_of(orchestrator)
    fault, *more = run.faults  # of these hosts nothing can be sealed: they have told of no hold
    assert (fault.code, fault.host, fault.disk) == ("transfer-stalled", "host-a", "vda")
    assert [one.code for one in more] == (["answers-lost"] if policy is Policy.DEGRADE else [])
    assert "neither moved nor waited for the repository for " in fault.message
    assert GUESTS["host-a"] in fault.advice


def test_one_that_has_not_begun_waits_behind_others_for_as_long_as_these_move(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    reconciler = Reconciler(orchestrator)
    orchestrator.redis.delete(names.pulse_key(CAPTURE))
    others = [names.pulse_field(host_id, f"{GUESTS[host_id]}.vdz") for host_id in GUESTS]
    pass_hours(orchestrator, clock, reconciler, 30, *others)
    assert run_of(orchestrator).state is RunState.TRANSFERRING


def test_one_that_waits_for_the_repository_again_and_again_is_not_stuck(
    orchestrator: Orchestrator, clock: Clock
) -> None:
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    other = names.pulse_field("host-a", f"{GUESTS['host-b']}.vdz")
    moving = names.pulse_field("host-b", f"{GUESTS['host-b']}.vda")
    for waits in range(3):
        pass_hours(orchestrator, clock, reconciler, 1, other, moving)
        beat(orchestrator, "host-a", 0, waits=waits + 1)
    pass_hours(orchestrator, clock, reconciler, 1, other, moving)
    assert run_of(orchestrator).state is RunState.TRANSFERRING
