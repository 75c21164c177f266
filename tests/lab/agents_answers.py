"""What a real agent, and one as in Windows, answer with an error: that it is understood, however libvirt tells of it."""

from __future__ import annotations

import json
import re
import time
from typing import Final

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from workers.hypervisor import agent, agent_info
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import FreezeExpiredError, FreezeFailedError, refused
from workers.hypervisor.guest_file import read_guest_file
from workers.steps.guest_in_hold import HeldGuest

#: One process at a time has the agent's port, so the next agent is tried until the port is free.
REPLACE: Final = """
sleep 0.3
old=$(cat /run/qemu-ga.pid); kill $old
while kill -0 $old; do sleep 0.1; done
rm -f /run/qemu-ga.pid
until /run/agent; do sleep 0.1; done
"""
BLOCKING: Final = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
qemu-ga --daemonize --method virtio-serial --path /dev/virtio-ports/org.qemu.guest_agent.0 --statedir /run \\
  --pidfile /run/qemu-ga.pid --block-rpcs=guest-fsfreeze-freeze,guest-info
"""
#: What the agent in Windows says to a thaw if the freeze has ended by itself: its own words, then Windows' in its language.
EXPIRED: Final = {
    "class": "GenericError",
    "desc": "couldn't hold writes: fsfreeze is limited up to 10 seconds: Das Zeitlimit wurde erreicht.",
}
#: Answers as the agent in a Windows whose freeze has ended by itself.
WINDOWS: Final = """#!/bin/sh
exec 3<>/dev/virtio-ports/org.qemu.guest_agent.0 || exit 1
while true; do
  read -r line <&3 || { sleep 0.1; continue; }  # as long as libvirt has not opened its end
  case $line in
    *guest-sync*) echo "{\\"return\\": $(echo "$line" | tr -dc 0-9)}" ;;
    *guest-fsfreeze-thaw*) cat /run/expired ;;
    *) echo '{"return": "windows"}' ;;
  esac >&3
done
"""


def check_understood(guest: Guest, words: str, code: int) -> None:
    """Have the guest's agent refuse what it can. `words` are libvirt's for {command}, told under `code`.

    Afterwards the guest has an agent that does nothing more.
    """
    domain = Domain(guest.domain)
    _a_file_that_is_not_there(domain, words, code)
    _frozen_by_another_tool(guest, domain)
    _blocked(guest, domain, words)
    _expired(guest, domain, words)


def _a_file_that_is_not_there(domain: Domain, words: str, code: int) -> None:
    said = re.escape(words.format(command="guest-file-open")) + ": .+No such file"
    with pytest.raises(AgentError, match=said) as caught:
        read_guest_file(domain, "/nowhere", 5)
    assert refused(caught.value)
    assert caught.value.libvirt_code == code


def _frozen_by_another_tool(guest: Guest, domain: Domain) -> None:
    guest.domain.fsFreeze()
    try:
        prepared = PreparedGuest(guest_uuid=domain.uuid, name=domain.name)
        hold = GuestHold(kind=HoldKind.FREEZE)
        held = HeldGuest(domain, Domain(guest.domain), prepared, hold, (), "<domainbackup/>", None, agent_timeout_s=5)
        held.take(time.monotonic() + 8)
        assert [fault.code for fault in held.faults] == ["guest-frozen"]
        assert guest.fsfreeze_status() == "frozen"
    finally:
        guest.domain.fsThaw()


def _blocked(guest: Guest, domain: Domain, words: str) -> None:
    _replace_agent(guest, BLOCKING)
    wait_for("an agent that blocks commands", lambda: _pinged(domain) == "{}" and _hides_its_commands(domain), 30.0)
    with pytest.raises(FreezeFailedError, match=re.escape(words.format(command="guest-fsfreeze-freeze"))):
        agent.freeze(domain, 5)
    assert agent.freeze_status(domain, 5) == "thawed"


def _expired(guest: Guest, domain: Domain, words: str) -> None:
    guest.write_file("/run/expired", json.dumps({"error": EXPIRED}).encode() + b"\n")
    _replace_agent(guest, WINDOWS)
    wait_for("an agent as in Windows", lambda: _pinged(domain) == "windows", 30.0)
    said = re.escape(words.format(command="guest-fsfreeze-thaw")) + ": couldn't hold writes"
    with pytest.raises(FreezeExpiredError, match=said):
        agent.thaw(domain, 5)


def _replace_agent(guest: Guest, script: str) -> None:
    guest.write_file("/run/agent", script.encode())
    guest.write_file("/run/replace", REPLACE.encode())
    guest.shell("chmod +x /run/agent; setsid sh /run/replace </dev/null >/dev/null 2>&1 &")


def _pinged(domain: Domain) -> str:
    """Return what the agent answers to a ping; nothing if it does not answer."""
    try:
        return str(json.loads(domain.agent_command('{"execute": "guest-ping"}', 5))["return"])
    except AgentError:
        return ""


def _hides_its_commands(domain: Domain) -> bool:
    try:
        return agent_info.commands(domain, 5) is None
    except AgentError:  # the agent before it went away in the middle of the question
        return False
