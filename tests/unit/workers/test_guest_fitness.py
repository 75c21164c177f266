"""Guests that cannot be held as asked are refused in prepare, with their state or the command that is blocked (P6, G3)."""

from __future__ import annotations

import json

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.words import HoldKind
from freezeframe.errors import EXIT_REFUSED
from freezeframe.naming import NamedGuest
from workers.fitness import blocked_command, state_refusal
from workers.hypervisor import agent, agent_info
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import FreezeFailedError, FreezeHookError, refused

DB = NamedGuest("db", "00000000-0000-4000-8000-00000000000d")
OLD_DB = NamedGuest("old db", "00000000-0000-4000-8000-00000000000e")

FREEZE = GuestHold(kind=HoldKind.FREEZE)
SOME = GuestHold(kind=HoldKind.FREEZE, mountpoints=("/srv",))
ALL_ENABLED = dict.fromkeys(
    ("guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list", "guest-fsfreeze-thaw", "guest-fsfreeze-status"), True
)


@pytest.mark.case("P6")
@pytest.mark.parametrize("hold", [HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
@pytest.mark.parametrize(
    ("state", "said", "advised"),
    [
        ("paused", "paused already", f"virsh resume {OLD_DB.uuid}"),
        ("pmsuspended", "suspended", f"virsh dompmwakeup {OLD_DB.uuid}"),
        ("crashed", "crashed", f"virsh reset {OLD_DB.uuid}"),
    ],
)
def test_a_guest_that_does_not_run_is_refused_with_its_state(
    state: str, said: str, advised: str, hold: HoldKind
) -> None:
    refusal = state_refusal(OLD_DB, state, hold)
    assert refusal is not None
    assert refusal.exit_code == EXIT_REFUSED
    assert "Guest old db" in refusal.message
    assert said in refusal.message
    assert advised in refusal.hint
    assert f"--guest-hold {OLD_DB.uuid}:none" in refusal.hint
    assert state_refusal(OLD_DB, state, HoldKind.NONE) is None


@pytest.mark.case("P6")
def test_a_guest_that_shuts_down_is_refused_however_it_is_held() -> None:
    for hold in HoldKind:
        assert state_refusal(DB, "in shutdown", hold) is not None
        assert state_refusal(DB, "running", hold) is None
        assert state_refusal(DB, "idle", hold) is None


@pytest.mark.case("G3")
@pytest.mark.parametrize("blocked", ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-fsfreeze-status"])
def test_a_freeze_that_the_agent_blocks_is_refused_with_the_command(blocked: str) -> None:
    refusal = blocked_command(DB, FREEZE, {**ALL_ENABLED, blocked: False})
    assert refusal is not None
    assert refusal.exit_code == EXIT_REFUSED
    assert blocked in refusal.message
    assert f"--guest-hold {DB.uuid}:pause" in refusal.hint
    assert "install" not in refusal.hint.lower()


@pytest.mark.case("G3")
def test_only_the_commands_that_the_hold_needs_must_be_allowed() -> None:
    no_list = {**ALL_ENABLED, "guest-fsfreeze-freeze-list": False}
    assert blocked_command(DB, FREEZE, no_list) is None
    assert blocked_command(DB, SOME, no_list) is not None
    assert blocked_command(DB, SOME, {**ALL_ENABLED, "guest-fsfreeze-freeze": False}) is None
    assert blocked_command(DB, GuestHold(kind=HoldKind.PAUSE), {}) is None
    assert blocked_command(DB, FREEZE, None) is None


@pytest.mark.case("G3")
def test_a_command_that_the_agent_does_not_have_is_said_to_be_unknown() -> None:
    refusal = blocked_command(DB, FREEZE, {"guest-ping": True})
    assert refusal is not None
    assert "does not know guest-fsfreeze-status, guest-fsfreeze-freeze, guest-fsfreeze-thaw" in refusal.message


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        '{"return": {}}',
        '{"return": {"supported_commands": [{"name": "x"}]}}',
        '{"return": null}',
        '{"return": {"supported_commands": [{"name": 1, "enabled": "yes"}]}}',
    ],
)
def test_a_guest_that_answers_guest_info_with_something_else_has_said_nothing(answer: str) -> None:
    assert agent_info.parse(answer) is None


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("internal error: unable to execute QEMU agent command 'guest-info': The command is not allowed", True),
        ("Guest agent is not responding: QEMU guest agent is not connected", False),
    ],
)
def test_an_agent_that_refuses_guest_info_is_not_one_that_does_not_answer(
    said: str, *, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise Handle(said, libvirt.VIR_ERR_INTERNAL_ERROR).error

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", fail)
    domain = Domain(Handle("", 0))
    if answers:
        assert agent_info.commands(domain, 5) is None
    else:
        with pytest.raises(AgentError):
            agent_info.commands(domain, 5)


class Handle:
    """A guest whose agent answers a freeze as told."""

    def __init__(self, error: str, code: int) -> None:
        self.error = libvirt.libvirtError(error)
        self.error.err = (code, libvirt.VIR_FROM_QEMU, error, 2, "", None, None, 0, 0)

    def UUIDString(self) -> str:  # noqa: N802  libvirt's name
        return "00000000-0000-4000-8000-00000000000a"

    def name(self) -> str:
        return "old db"


@pytest.fixture(autouse=True)
def _agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(handle: Handle, command: str, timeout_s: int, flags: int) -> str:
        assert json.loads(command) == {"execute": "guest-fsfreeze-freeze"}
        assert timeout_s > 0
        assert flags == 0
        raise handle.error

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", asked)


REFUSES = "internal error: unable to execute QEMU agent command 'guest-fsfreeze-freeze': "


@pytest.mark.case("G3")
@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (REFUSES + "fsfreeze hook has failed with status 1", FreezeHookError),
        (REFUSES + "failed to freeze /srv: Invalid argument", FreezeFailedError),
    ],
)
def test_a_freeze_that_failed_in_the_guest_is_said_as_such_and_a_pause_advised(
    said: str, failure: type[FreezeFailedError]
) -> None:
    domain = Domain(Handle(said, libvirt.VIR_ERR_INTERNAL_ERROR))
    with pytest.raises(failure) as caught:
        agent.freeze(domain, 5)
    assert type(caught.value) is failure
    assert said.removeprefix(REFUSES) in caught.value.message
    assert f"--guest-hold {domain.uuid}:pause" in caught.value.hint
    assert "install" not in caught.value.hint.lower()


@pytest.mark.case("G3")
def test_an_agent_that_does_not_answer_a_freeze_is_not_said_to_have_failed() -> None:
    domain = Domain(Handle("Guest agent is not responding", libvirt.VIR_ERR_AGENT_UNRESPONSIVE))
    with pytest.raises(AgentError) as caught:
        agent.freeze(domain, 5)
    assert type(caught.value) is AgentError
    assert not refused(caught.value)
