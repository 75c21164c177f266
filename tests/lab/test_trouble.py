"""Bad input and trouble: a clear error that names what it is about, before any guest is touched, and nothing left behind.

That nothing is held or left is asserted after every test, from outside, by `nothing_left_behind`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import libvirt
import pytest

from freezeframe.presence import known_hosts
from ops.lab import DiskSpec, Lab
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System
from ops.trial.truth import transfers_paused, wait_until_transferring

from .command import Command
from .inventory import one_more_guest, published

REFUSED, NOT_FOUND, REPOSITORY, UNREACHABLE, PARTIAL = 3, 4, 5, 6, 10


@pytest.fixture(scope="module")
def odd(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest with every kind of disk that is none, or cannot be captured."""
    disks = [
        DiskSpec(target="vda", size_mib=64),
        DiskSpec(target="sdb", device="cdrom", size_mib=1, format="raw"),
        DiskSpec(target="fda", device="floppy", size_mib=1, format="raw"),
        DiskSpec(target="vdc", size_mib=64, transient=True),
    ]
    with one_more_guest(system, lab, "host-b", "odd", disks) as guest:
        yield guest


def test_an_unknown_guest_is_named_and_a_near_one_offered(command: Command) -> None:
    outcome = command("capture", "alpah")
    assert outcome.code == NOT_FOUND
    assert "alpah" in outcome.error["message"]
    assert "alpha" in outcome.error["advice"]


def test_a_guest_without_an_agent_is_refused_and_told_what_would_help(command: Command, mute: Guest) -> None:
    outcome = command("capture", "alpha", "mute")
    assert outcome.code == REFUSED
    assert (outcome.error["guest"], outcome.error["host"]) == (mute.name, "host-b")
    assert "mute" in outcome.error["message"]
    assert f"--guest-hold {mute.uuid}:pause" in outcome.error["advice"]


@pytest.mark.parametrize("hold", ["pause", "none"])
def test_a_guest_without_an_agent_can_be_captured_without_one(command: Command, mute: Guest, hold: str) -> None:
    outcome = command("capture", "gamma", mute.name, "--hold", hold)
    assert outcome.code == 0, outcome.stderr
    assert outcome.answer["consistency"] == {"pause": "group", "none": "crash"}[hold]


def test_with_degrade_the_others_are_captured_and_the_lost_one_is_named(command: Command, mute: Guest) -> None:
    outcome = command("capture", "alpha", mute.name, "--policy", "degrade")
    assert outcome.code == PARTIAL
    assert [guest["guest"] for guest in outcome.answer["guests"]] == ["alpha"]
    assert outcome.answer["consistency"] == "group"
    assert [fault["guest"] for fault in outcome.answer["faults"]] == [mute.name]


def test_a_transient_disk_is_refused_by_name(command: Command, odd: Guest) -> None:
    outcome = command("capture", odd.name)
    assert outcome.code == REFUSED
    assert "Disk vdc of guest odd" in outcome.error["message"]
    assert "transient" in outcome.error["message"]
    assert f"--skip-disk {odd.uuid}:vdc" in outcome.error["advice"]


def test_what_is_left_out_is_never_left_out_in_silence(command: Command, odd: Guest) -> None:
    outcome = command("capture", odd.name, "--skip-disk", "odd:vdc")
    assert outcome.code == 0, outcome.stderr
    skipped = {disk["target"]: disk["reason"] for disk in outcome.answer["skipped_disks"]}
    assert set(skipped) == {"sdb", "fda", "vdc"}
    assert "CD-ROM" in skipped["sdb"]
    assert "floppy" in skipped["fda"]
    for target in skipped:
        assert target in outcome.stderr + str(command("captures", "show", "latest").answer)


def test_a_disk_that_is_not_there_cannot_be_left_out(command: Command) -> None:
    outcome = command("capture", "alpha", "--skip-disk", "alpha:vdz")
    assert outcome.code == REFUSED
    assert "vdz" in outcome.error["message"]
    assert "vda, vdb" in outcome.error["advice"]


def test_a_guest_that_is_shut_off_is_refused(command: Command, mute: Guest, system: System) -> None:
    mute.destroy()
    try:
        published(system, mute.name, "shut off")
        outcome = command("capture", mute.name, "--hold", "pause")
        assert outcome.code == REFUSED
        assert "mute is not running" in outcome.error["message"]
    finally:
        mute.start()
        published(system, mute.name, "running")


def test_a_guest_that_is_being_captured_is_refused_and_the_first_capture_undisturbed(
    command: Command, system: System
) -> None:
    with transfers_paused(system):
        first = command.begin("capture", "alpha")
        capture_id = wait_until_transferring(system.redis, first)
        second = command("capture", "alpha", "gamma")
        assert second.code == REFUSED
        assert second.error["guest"] == "alpha"
        assert capture_id in second.error["message"]
    assert command.finish(first).code == 0


def test_a_guest_that_somebody_else_backs_up_is_refused(command: Command, lab: Lab) -> None:
    gamma = lab.guest("gamma")
    other = "/var/lib/libvirt/qemu/other"  # where QEMU's user may make a socket
    gamma.domain.backupBegin(
        f"<domainbackup mode='pull'><server transport='unix' socket='{other}'/></domainbackup>", None
    )
    try:
        outcome = command("capture", "gamma")
        assert outcome.code == REFUSED
        assert outcome.error["guest"] == "gamma"
        assert "backup" in outcome.error["message"]
        assert other in gamma.domain.backupGetXMLDesc()
    finally:
        gamma.domain.abortJob()  # which asks for its end, and does not wait for it
        wait_for("the end of the backup", lambda: gamma.domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE, 60.0)


def test_a_guest_that_somebody_else_froze_is_refused_and_stays_frozen(command: Command, lab: Lab) -> None:
    gamma = lab.guest("gamma")
    gamma.domain.fsFreeze()
    try:
        outcome = command("capture", "gamma")
        assert outcome.code == REFUSED
        assert "gamma is frozen already" in outcome.error["message"]
        assert gamma.fsfreeze_status() == "frozen"
    finally:
        gamma.domain.fsThaw()


def test_a_host_that_is_down_is_named_before_anything_is_touched(command: Command, system: System) -> None:
    system.end_part("control@host-b")
    try:
        wait_for("host-b down", lambda: not _alive(system, "host-b"), 60.0)
        outcome = command("capture", "alpha", "gamma")
        assert outcome.code == UNREACHABLE
        assert "gamma is on host host-b" in outcome.error["message"]
        assert "down" in str(command("hosts").answer).lower() or "false" in str(command("hosts").answer).lower()
    finally:
        system.start_part("control", system.lab.host("host-b"))
        system.wait_ready()


def _alive(system: System, host_id: str) -> bool:
    return any(host.alive for host in known_hosts(system.redis) if host.entry.host_id == host_id)


def test_without_its_thaw_guard_a_host_holds_nothing(command: Command, system: System) -> None:
    system.end_part("guard@host-a")
    try:
        outcome = command("capture", "alpha")
        assert outcome.code == UNREACHABLE
        assert "thaw guard" in outcome.error["message"]
        assert outcome.error["host"] == "host-a"
    finally:
        system.start_part("guard", system.lab.host("host-a"))
        system.wait_ready()


def test_a_repository_that_cannot_be_written_is_named(command: Command, system: System) -> None:
    """Root may write anywhere but to what is immutable."""
    folder = str(system.repository_path / "tmp")
    subprocess.run(["chattr", "+i", folder], check=True)
    try:
        outcome = command("capture", "alpha")
        assert outcome.code == REPOSITORY
        assert str(system.repository_path) in outcome.error["message"]
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)


@pytest.mark.long  # half a minute of a caller's patience; the unit tests of the client have it too
def test_nobody_to_take_the_request_is_told(command: Command, system: System) -> None:
    system.end_part("orchestrator")
    try:
        outcome = command("capture", "alpha")
        assert outcome.code == UNREACHABLE
        assert "orchestrator" in outcome.error["message"]
    finally:
        system.start_part("orchestrator")
        system.wait_ready()
