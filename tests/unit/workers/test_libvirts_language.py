"""What an agent answered is understood in whatever language and version of libvirt it is told.

libvirt translates its messages by libvirtd's locale; what the agent said stands in them as it is. With a German libvirtd a
guest that another tool had frozen was thawed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind
from workers.hypervisor import agent, agent_info
from workers.hypervisor.agent_answer import asking, refusal_in
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError, GuestGoneError, HypervisorUnreachableError
from workers.hypervisor.fake_guest import REFUSALS, FakeGuest, agent_error, disk_xml, domain_xml, libvirt_error
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.hypervisor.freeze_failure import FreezeExpiredError, FreezeHookError, refused
from workers.hypervisor.guest_file import FILE_COMMANDS
from workers.steps.guest_in_hold import HeldGuest, Phase
from workers.steps.still_fit import check_still_fit
from workers.steps.stillness import stillness_of

FREEZE = GuestHold(kind=HoldKind.FREEZE)
COMMAND_FAILED, COMMAND_TIMEOUT = 113, 112
WORDS = {
    "English": "internal error: unable to execute QEMU agent command '{command}': {why}",
    "German": "Interner Fehler: Der Befehl '{command}' an den QEMU-Agenten ist gescheitert: {why}",
    "Czech": "vnitřní chyba: příkaz „{command}“ pro agenta QEMU selhal: {why}",
    "Korean": "내부 오류: QEMU 명령 '{command}'을 못함: {why}",
    "Chinese": "内部错误：QEMU 代理命令 '{command}' 失败：{why}",
    "agent in the middle": "त्रुटी: QEMU आदेश '{command}': {why} अशक्य",
    "agent first": "{why} ({command})",
    "garbage": "\N{REPLACEMENT CHARACTER}{command}\N{REPLACEMENT CHARACTER} {why}",
}


@pytest.fixture(params=[libvirt.VIR_ERR_INTERNAL_ERROR, COMMAND_FAILED], ids=["9.0", "11.2"])
def _version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REFUSALS, "code", request.param)


@pytest.fixture(params=list(WORDS.values()), ids=list(WORDS))
def fake(_version: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> HeldFake:
    """A guest of a libvirt of each version and language."""
    monkeypatch.setattr(REFUSALS, "words", request.param)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    return held_fake(1)


def held(fake: HeldFake) -> HeldGuest:
    prepared = PreparedGuest(guest_uuid=fake.uuid, name=fake.label)
    guest = HeldGuest(fake.domain(), fake.domain(), prepared, FREEZE, (), "<domainbackup/>", None, agent_timeout_s=1)
    guest.take(time.monotonic() + 10)
    return guest


@pytest.mark.case("P4")
def test_a_guest_that_another_tool_has_frozen_stays_frozen(fake: HeldFake) -> None:
    fake.frozen = True
    guest = held(fake)
    assert [fault.code for fault in guest.faults] == ["guest-frozen"]
    assert (fake.frozen, fake.log) == (True, [])


@pytest.mark.case("G3")
def test_a_freeze_that_windows_ended_by_itself_is_told_as_such(fake: HeldFake) -> None:
    fake.expires = True
    guest = held(fake)
    guest.release()
    assert guest.is_settled()
    assert [fault.code for fault in guest.faults] == ["freeze-expired"]


@pytest.mark.case("G3")
def test_a_freeze_hook_that_failed_is_told_as_such(fake: HeldFake) -> None:
    fake.freeze_fails = agent_error("guest-fsfreeze-freeze", "fsfreeze hook has failed with status 1")
    with pytest.raises(FreezeHookError) as caught:
        agent.freeze(fake.domain(), 5)
    assert refused(caught.value)
    guest = held(fake)
    assert [fault.code for fault in guest.faults] == ["freeze-hook"]
    assert guest.phase is not Phase.BEGUN


def test_other_words_of_the_agent_are_no_hook_and_no_end_of_a_freeze(
    fake: HeldFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.freeze_fails = agent_error("guest-fsfreeze-freeze", "failed to freeze /srv: Invalid argument")
    assert [fault.code for fault in held(fake).faults] == ["freeze-failed"]
    fake.freeze_fails = None
    monkeypatch.setattr(fake, "agent_command", _raising(agent_error("guest-fsfreeze-thaw", "failed to open /srv")))
    with pytest.raises(AgentError) as caught:
        agent.thaw(fake.domain(), 5)
    assert not isinstance(caught.value, FreezeExpiredError)
    assert refused(caught.value)


@pytest.mark.case("G3")
def test_an_agent_that_may_not_tell_has_answered(fake: HeldFake, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("guest-info", "guest-fsfreeze-status"):
        monkeypatch.setattr(fake, "agent_command", _raising(agent_error(command, "The command is not allowed")))
        if command == "guest-info":
            assert agent_info.commands(fake.domain(), 5) is None
        else:
            check_still_fit(fake.domain(), FREEZE, ["vda"], 5)


@pytest.mark.case("P1")
@pytest.mark.usefixtures("fake")
def test_what_the_agent_does_not_tell_proves_nothing_and_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its list of filesystems, of devices, a file that is not there, or one that it may not give out."""
    one = FakeGuest(domain_xml(disk_xml("vda", "/a")), filesystems=[["/", "vda1", "ext4", ["vda"]]], loose=["vda5"])
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", lambda handle, *words: handle.agent_command(*words[:2]))
    one.commands.update(dict.fromkeys(FILE_COMMANDS, True))

    def moving() -> list[str]:
        domain = Domain(one)
        return [disk.target for disk in stillness_of(domain, FREEZE, domain.disks(), None, 5).moving]

    assert moving() == ["vda"]
    one.loose = []
    assert moving() == []
    for blocked in ("guest-get-fsinfo", "guest-get-disks"):
        one.commands[blocked] = False
        assert moving() == ["vda"]
        one.commands[blocked] = True


ANSWERED = WORDS["German"].format(command="guest-fsfreeze-freeze", why="so")
NO_REPLY = "Interner Fehler: Der Agent hat nichts gesagt"


@pytest.mark.parametrize(
    ("code", "domain", "message", "answered"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, ANSWERED, True),
        (COMMAND_FAILED, libvirt.VIR_FROM_QEMU, ANSWERED, True),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, "'guest-fsfreeze-freeze'", True),  # without a reason
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, NO_REPLY, False),
        (COMMAND_FAILED, libvirt.VIR_FROM_QEMU, NO_REPLY, False),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, ANSWERED.replace("freeze'", "freeze-list'"), False),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, ANSWERED.replace("'guest", "'my-guest"), False),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_NONE, ANSWERED, False),  # JSON that libvirt cannot parse
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_FROM_QEMU, ANSWERED, False),
        (libvirt.VIR_ERR_AGENT_UNSYNCED, libvirt.VIR_FROM_QEMU, ANSWERED, False),
        (COMMAND_TIMEOUT, libvirt.VIR_FROM_QEMU, ANSWERED, False),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, None, False),
    ],
)
def test_an_answer_is_known_by_code_domain_and_the_command_s_name(
    code: int, domain: int, message: str | None, *, answered: bool
) -> None:
    error = libvirt.libvirtError("")
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, "", None, None, 0, 0)
    assert refusal_in(error, "guest-fsfreeze-freeze") == (message if answered else None)


def test_a_guest_s_name_is_not_taken_for_the_command() -> None:
    """The words of our own message, which have the guest's name, are not looked at."""
    with pytest.raises(AgentError) as caught, asking("asking the agent of guest guest-info", "guest-info"):
        raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, NO_REPLY)
    assert not refused(caught.value)
    assert "guest-info" in caught.value.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "Domain 'guest-info' fehlt"), GuestGoneError),
        (libvirt_error(libvirt.VIR_ERR_NO_CONNECT, "Keine Verbindung"), HypervisorUnreachableError),
    ],
)
def test_a_guest_or_a_libvirt_that_is_gone_is_no_answer(error: libvirt.libvirtError, kind: type[Exception]) -> None:
    with pytest.raises(kind), asking("asking", "guest-info"):
        raise error


def _raising(error: Exception) -> Callable[[str, int], str]:
    def answer(_command: str, _timeout_s: int) -> str:
        raise error

    return answer
