"""The whole path on real parts: captures of three guests on two hosts, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.contract.words import Consistency
from ops.lab.guest import Guest
from ops.system import System
from ops.trial.account import Account
from ops.trial.story import Trial

from .command import Command
from .inventory import forgotten


@pytest.fixture(scope="module")
def account(system: System, tmp_path_factory: pytest.TempPathFactory) -> Account:
    """What ops/try does: a full and an incremental capture, both restored and compared with their truth."""
    return Trial(system, tmp_path_factory.mktemp("trial"), print).run()


def test_every_byte_is_what_the_guest_had_at_the_instant(account: Account) -> None:
    assert [len(capture.guests) for capture in account.captures] == [3, 3]
    assert all(guest.identical for capture in account.captures for guest in capture.guests)


def test_all_guests_show_one_instant_and_their_own_memory_agrees(account: Account) -> None:
    assert {guest.host for guest in account.captures[0].guests} == {"host-a", "host-b"}
    for capture in account.captures:
        assert capture.consistency == Consistency.GROUP
        assert [guest.faults for guest in capture.guests] == [[], [], []]
        assert all(guest.hold_ms > 0 for guest in capture.guests)


def test_the_second_capture_reads_at_most_what_changed(account: Account) -> None:
    full, incremental = account.captures
    for before, after in zip(full.guests, incremental.guests, strict=True):
        assert set(before.kinds.values()) == {"full"}
        assert set(after.kinds.values()) == {"incremental"}
        assert after.dirty_bytes is not None
        assert 0 < after.bytes_read < before.bytes_read  # Trial compares it with the dirty ranges, to the chunk


def test_a_restored_guest_boots_to_its_agent(account: Account) -> None:
    assert account.booted == "alpha"
    assert account.ok


def test_a_capture_is_listed_shown_and_verified(account: Account, command: Command) -> None:
    capture_id = account.captures[0].capture_id
    listed = command("captures")
    assert listed.code == 0
    assert capture_id in str(listed.answer)
    shown = command("captures", "show", capture_id)
    assert shown.code == 0
    assert "host-b" in str(shown.answer)
    verified = command("verify", capture_id)
    assert verified.code == 0


def test_hosts_and_guests_are_listed(system: System, command: Command) -> None:
    hosts = command("hosts")
    assert hosts.code == 0
    assert all(name in str(hosts.answer) for name in system.lab.hosts)
    guests = command("guests")
    assert guests.code == 0
    assert all(guest.uuid in str(guests.answer) for guest in system.lab.guests.values())


def test_a_restored_guest_can_be_defined_under_a_new_name(account: Account, system: System, tmp_path: Path) -> None:
    """On its host, since that is where a libvirt is; it boots from the restored disks beside the one it was taken from."""
    host = system.lab.host("host-a")
    wanted = ["restore", account.captures[1].capture_id, "--guest", "alpha", "--to", str(tmp_path / "again")]
    # its kernel, and the file that its serial port writes to, are the host's
    define = ("--define", "alpha-again", "--trust-definition", "--start")
    command_line = system.command_line(*wanted, "--format", "qcow2", *define)
    try:
        host.run(command_line, env=system.settings(host))
        again = Guest(host, "alpha-again")
        again.wait_agent()
        assert again.uuid != system.lab.guest("alpha").uuid
        assert again.fsfreeze_status() == "thawed"
    finally:
        Guest(host, "alpha-again").remove()
        forgotten(system, "alpha-again")
