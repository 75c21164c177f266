"""An agent that answers in the time that it is set takes part, and no time can be set that some part does not wait."""

from __future__ import annotations

import json
import os

import pytest

from freezeframe.settings import LONGEST_AGENT_S, HostSettings, SettingsError, load
from tests.unit.workers.hold_site import FREEZE, Site, results
from workers.guard.table import AGENT_S
from workers.hypervisor.fake_held_guest import HeldFake
from workers.steps import held_guest
from workers.steps.window import GIVE_UP_S, LONGEST_GIVE_UP_S


@pytest.mark.case("G4", "S10")
@pytest.mark.parametrize("seconds", [LONGEST_AGENT_S + 1, 11, 30, 60, 3600])
def test_a_time_that_the_guard_does_not_wait_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)
    monkeypatch.setenv("FREEZEFRAME_AGENT_TIMEOUT_S", str(seconds))
    with pytest.raises(SettingsError, match=r"(?i)agent_timeout_s\b.*less than or equal to 5"):
        load(HostSettings)
    monkeypatch.setenv("FREEZEFRAME_AGENT_TIMEOUT_S", str(LONGEST_AGENT_S))
    assert load(HostSettings).agent_timeout_s == LONGEST_AGENT_S


@pytest.mark.case("G4")
def test_every_part_waits_as_long_for_an_agent_as_can_be_set() -> None:
    assert HostSettings.model_fields["agent_timeout_s"].default <= LONGEST_AGENT_S
    assert LONGEST_AGENT_S <= AGENT_S  # the guard
    assert held_guest.READY_S >= LONGEST_AGENT_S + 2.0  # and libvirt's answers on a busy host
    assert 2 * LONGEST_AGENT_S + GIVE_UP_S <= LONGEST_GIVE_UP_S  # the window's end: a thaw, and whether it was done


@pytest.mark.case("G4")
def test_a_guest_is_asked_with_the_time_that_is_set_before_its_hold(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer = HeldFake.agent_command

    def noted(self: HeldFake, command: str, timeout_s: int) -> str:
        if json.loads(command)["execute"] == "guest-fsfreeze-status":
            asked.append(timeout_s)
        return answer(self, command, timeout_s)

    monkeypatch.setattr(HeldFake, "agent_command", noted)
    for host in site.hosts.values():
        object.__setattr__(host, "settings", host.settings.model_copy(update={"agent_timeout_s": 4}))
    found = results(site.hold(hold=FREEZE))
    assert [one.fault for result in found for one in result.guest_faults] == []
    assert set(asked) == {4}
