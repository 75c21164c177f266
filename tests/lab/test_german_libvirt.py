"""A libvirtd with German messages: what a guest's agent answers is understood all the same.

libvirtd translates by LANG of its host, which systemd's units have, with the catalogue of libvirt-l10n. Here the catalogue is
the test's own, so that it needs no package, and only this host sees it.
"""

from __future__ import annotations

import gettext
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind
from ops.lab import Lab, LabSpec
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from workers.hypervisor import agent, agent_info
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import FreezeExpiredError, FreezeFailedError, refused
from workers.hypervisor.guest_file import read_guest_file
from workers.steps.guest_in_hold import HeldGuest

#: By libvirt's own words, as 9.0 has them and as later versions do.
GERMAN: Final = {
    "internal error: %s": "Interner Fehler: %s",
    "internal error: %1$s": "Interner Fehler: %1$s",
    "guest agent command failed: %s": "Befehl an den Agenten misslang: %s",
    "guest agent command failed: %1$s": "Befehl an den Agenten misslang: %1$s",
    "unable to execute QEMU agent command '%s': %s": "Der Agent hat '%s' verweigert: %s",
    "unable to execute QEMU agent command '%1$s': %2$s": "Der Agent hat '%1$s' verweigert: %2$s",
}
#: Has one connection to the port at a time: the next agent is tried until the port is free.
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


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """The one guest of a host whose libvirtd was started anew with a German locale."""
    with Lab.up(LabSpec.of(hosts=1, guests=1, disks=1), tmp_path_factory.mktemp("lab")) as lab:
        host = lab.host("host-a")
        catalogue = tmp_path_factory.mktemp("locale")
        (catalogue / "de/LC_MESSAGES").mkdir(parents=True)
        (catalogue / "de/LC_MESSAGES/libvirt.mo").write_bytes(compiled(GERMAN))
        host.run(["mount", "--bind", str(catalogue), "/usr/share/locale"])  # in this host's mount namespace
        host.kill_libvirtd()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LC_ALL", "C.UTF-8")  # a locale that every machine has, and other than C: LANGUAGE counts
            patch.setenv("LANGUAGE", "de")
            host.start_libvirtd()
        found = lab.guest("alpha")
        found.wait_agent()
        yield found


def test_a_file_that_is_not_there_is_an_answer(guest: Guest) -> None:
    with pytest.raises(AgentError, match=r"Der Agent hat 'guest-file-open' verweigert: .+No such file") as caught:
        read_guest_file(Domain(guest.domain), "/nowhere", 5)
    assert refused(caught.value)


@pytest.mark.case("P4")
def test_a_guest_that_another_tool_has_frozen_stays_frozen(guest: Guest) -> None:
    guest.domain.fsFreeze()
    try:
        domain, hold = Domain(guest.domain), GuestHold(kind=HoldKind.FREEZE)
        prepared = PreparedGuest(guest_uuid=domain.uuid, name=domain.name)
        held = HeldGuest(domain, Domain(guest.domain), prepared, hold, (), "<domainbackup/>", None, agent_timeout_s=5)
        held.take(time.monotonic() + 8)
        assert [fault.code for fault in held.faults] == ["guest-frozen"]
        assert guest.fsfreeze_status() == "frozen"
    finally:
        guest.domain.fsThaw()


@pytest.mark.case("G3")
def test_commands_that_the_agent_blocks_are_told_as_refused(guest: Guest) -> None:
    domain = Domain(guest.domain)
    replace_agent(guest, BLOCKING)
    wait_for("an agent that blocks commands", lambda: pinged(domain) == "{}" and blocks(domain), 30.0)
    with pytest.raises(FreezeFailedError, match="Der Agent hat 'guest-fsfreeze-freeze' verweigert"):
        agent.freeze(domain, 5)
    assert agent.freeze_status(domain, 5) == "thawed"


@pytest.mark.case("G3")
def test_a_freeze_that_windows_ended_is_told_as_such(guest: Guest) -> None:
    domain = Domain(guest.domain)
    guest.write_file("/run/expired", json.dumps({"error": EXPIRED}).encode() + b"\n")
    replace_agent(guest, WINDOWS)
    wait_for("an agent as in Windows", lambda: pinged(domain) == "windows", 30.0)
    with pytest.raises(FreezeExpiredError, match="verweigert: couldn't hold writes"):
        agent.thaw(domain, 5)


def replace_agent(guest: Guest, script: str) -> None:
    guest.write_file("/run/agent", script.encode())
    guest.write_file("/run/replace", REPLACE.encode())
    guest.shell("chmod +x /run/agent; setsid sh /run/replace </dev/null >/dev/null 2>&1 &")


def pinged(domain: Domain) -> str:
    """Return what the agent answers to a ping; nothing if it does not answer."""
    try:
        return str(json.loads(domain.agent_command('{"execute": "guest-ping"}', 5))["return"])
    except AgentError:
        return ""


def blocks(domain: Domain) -> bool:
    return agent_info.commands(domain, 5) is None


def compiled(texts: dict[str, str]) -> bytes:
    """Return a message catalogue. [GNU gettext manual, The Format of GNU MO Files]"""
    entries = [("", "Content-Type: text/plain; charset=UTF-8\n"), *sorted(texts.items())]
    at = 28 + 16 * len(entries)
    tables, data = [b"", b""], b""
    for side in (0, 1):
        for entry in entries:
            text = entry[side].encode()
            tables[side] += struct.pack("<II", len(text), at + len(data))
            data += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(entries), 28, 28 + 8 * len(entries), 0, 0)
    return head + tables[0] + tables[1] + data


def test_the_catalogue_is_one_that_gettext_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.mo"
    path.write_bytes(compiled(GERMAN))
    with path.open("rb") as file:
        translations = gettext.GNUTranslations(file)
    assert {words: translations.gettext(words) for words in GERMAN} == GERMAN
