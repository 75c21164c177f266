"""A guest on which libvirt is at work, or whose agent hangs, is found before the muster: nobody waits for it, held."""

from __future__ import annotations

import json
from collections.abc import Callable

import libvirt
import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import consistency
from freezeframe.contract.words import Consistency
from freezeframe.errors import FreezeframeError
from tests.unit.workers.hold_site import FREEZE, PAUSE, Site, proof_of, results
from workers.hypervisor.fake_guest import agent_error
from workers.hypervisor.fake_held_guest import HeldFake, no_answer
from workers.steps import hold as step


def migrates(fake: HeldFake) -> None:
    job = {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT}
    fake.jobStats = lambda: job  # type: ignore[method-assign]


def saves(fake: HeldFake) -> None:
    job = {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE}
    fake.jobStats = lambda: job  # type: ignore[method-assign]


def commits(fake: HeldFake) -> None:
    def info(target: str) -> dict[str, int]:
        assert target == "vda"
        return {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT}

    fake.blockJobInfo = info  # type: ignore[method-assign]


def answering(fake: HeldFake, answer: Callable[[str], str]) -> None:
    ask = HeldFake.agent_command

    def agent_command(command: str, timeout_s: int) -> str:
        if json.loads(command)["execute"] == "guest-fsfreeze-status" and not fake.log:
            return answer(command)
        return ask(fake, command, timeout_s)

    fake.agent_command = agent_command  # type: ignore[method-assign]


def hangs(fake: HeldFake) -> None:
    def answer(_: str) -> str:
        raise no_answer()

    answering(fake, answer)


@pytest.mark.case("G4")
@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
@pytest.mark.parametrize(
    ("trouble", "hold", "code", "said"),
    [
        (migrates, PAUSE, "guest-migrating", "guest-11 is migrating"),
        (saves, PAUSE, "guest-busy", "guest-11 is busy with another job: save"),
        (commits, PAUSE, "guest-busy", "Disk vda of guest guest-11 has a block job"),
        (hangs, FREEZE, "no-agent", "The agent of guest guest-11 does not answer"),
    ],
)
def test_what_came_up_since_prepare_is_told_before_anybody_is_held(
    site: Site, trouble: Callable[[HeldFake], None], hold: GuestHold, code: str, said: str, *, everyone: bool
) -> None:
    unfit = site.guests["host-a"][0]
    trouble(unfit)
    answers = site.hold(hold=hold, all_or_nothing=everyone)
    assert unfit.log == []
    if everyone:
        refused = answers["host-a"]
        assert isinstance(refused, FreezeframeError)
        assert said in str(refused)
        fault = Fault.of(refused)
        assert (fault.code, fault.guest) == (code, "guest-11")
        assert isinstance(answers["host-b"], step.MusterError)
        assert all(fake.log == [] for fake in site.fakes.values())
    else:
        held = results(answers)
        assert [(one.guest_uuid, one.fault.code) for one in held[0].guest_faults] == [(unfit.uuid, code)]
        assert consistency(proof_of(held)) is Consistency.GROUP


@pytest.mark.case("G3")
def test_an_agent_that_may_not_tell_has_answered(site: Site) -> None:
    def forbidden(_: str) -> str:
        raise agent_error("guest-fsfreeze-status", "Command guest-fsfreeze-status has been disabled")

    answering(site.guests["host-a"][0], forbidden)
    assert consistency(proof_of(results(site.hold(hold=FREEZE)))) is Consistency.GROUP


@pytest.mark.case("P4")
def test_a_guest_that_was_frozen_or_paused_meanwhile_is_left_to_the_hold(site: Site) -> None:
    paused, frozen = site.guests["host-a"]
    paused.state_code, frozen.frozen = libvirt.VIR_DOMAIN_PAUSED, True
    held = results(site.hold(hold=FREEZE, all_or_nothing=False))  # the first to fail ends no other's attempt
    assert sorted(one.fault.code for one in held[0].guest_faults) == ["guest-frozen", "guest-paused"]
    assert sorted(site.held_ones()) == ["guest-11", "guest-12"]
