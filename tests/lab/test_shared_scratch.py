"""Scratch room that guests share, guests that stop while they are read, and guests that are detached: on real guests.

A lab of its own, whose host has a small file system for scratch files: mounted before the lab, so that every QEMU sees it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ops.lab import Lab, LabSpec
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System
from ops.trial.truth import transfers_paused, wait_until_transferring
from workers.hypervisor.bitmaps import Found, is_ours, ours_in

from .command import Command

FAILED, REFUSED = 1, 3
#: Two guests of 2 x 512 MiB reserve 102 MiB each.
ROOM_MIB = 260
#: What ballast leaves free: less than the floor of the watcher.
LEFT_MIB = 24


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("small")
    options = f"size={ROOM_MIB}m,mode=711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "freezeframe-test", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="module")
def lab(scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(LabSpec.of(hosts=1, guests=2, disks=2), tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def system(lab: Lab, scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(lab, tmp_path_factory.mktemp("system"), {"FREEZEFRAME_SCRATCH_DIR": str(scratch)}) as running:
        (running.directory / "host-a" / "scratch").mkdir(exist_ok=True)  # where traces are looked for
        yield running


@pytest.fixture
def ballast(scratch: Path) -> Iterator[Path]:
    """A file of somebody else's that takes the room away; gone after the test."""
    path = scratch / "ballast"
    yield path
    path.unlink(missing_ok=True)
    assert list(scratch.iterdir()) == []


def leave_free(ballast: Path, mib: int) -> None:
    with ballast.open("wb") as file:
        room = os.statvfs(ballast.parent)
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - (mib << 20))


def bitmaps_of(guest: Guest) -> list[str]:
    """Our bitmaps in a guest's images, as QEMU's own tool tells them."""
    found = []
    for target in ("vda", "vdb"):
        done = subprocess.run(
            ["qemu-img", "info", "--force-share", "--output=json", os.fspath(guest.image(target))],
            check=True,
            capture_output=True,
        )
        data = json.loads(done.stdout)["format-specific"]["data"]
        found += [bitmap["name"] for bitmap in data.get("bitmaps", []) if is_ours(bitmap["name"])]
    return found


def has_job(guest: Guest) -> bool:
    return bool(guest.domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)


def detach(system: System, *arguments: str) -> dict[str, Any]:
    """The verb on the guests' host."""
    host = system.lab.host("host-a")
    line = system.command_line("detach", *arguments, "--json")
    done = host.run(line, env=system.settings(host), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.case("G5")
def test_two_guests_that_fit_alone_and_not_together(system: System, command: Command, ballast: Path) -> None:
    leave_free(ballast, 180)
    refused = command("capture", "alpha", "beta")
    assert refused.code == REFUSED
    assert refused.error["code"] == "scratch-space"
    assert refused.error["guest"] in {"alpha", "beta"}
    assert "102 MiB are reserved" in refused.error["message"]
    assert command("capture", "beta").code == 0


@pytest.mark.case("G5")
def test_scratch_full_with_no_transfer_running_ends_the_backups(
    system: System, lab: Lab, command: Command, ballast: Path
) -> None:
    with transfers_paused(system):
        capturing = command.begin("capture", "alpha", "beta")
        wait_until_transferring(system.redis, capturing)
        leave_free(ballast, LEFT_MIB)
        for guest in lab.guests.values():
            wait_for(f"{guest.name}: its backup ends", lambda guest=guest: not has_job(guest), 60.0)  # type: ignore[misc]
            assert guest.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    outcome = command.finish(capturing)
    assert outcome.code == FAILED
    faults = [fault for fault in outcome.answer["faults"] if fault["code"] == "scratch-runs-out"]
    assert {fault["guest"] for fault in faults} <= {"alpha", "beta"}
    assert faults
    for guest in lab.guests.values():
        assert guest.acked("vda") > 0  # its writer has not given up: no write of the guest failed


@pytest.mark.case("G5")
def test_a_guest_s_backup_ends_with_its_last_disk(system: System, lab: Lab, command: Command, scratch: Path) -> None:
    """Of one capture: alpha has changed little and is done with, while beta is still read at 1 MiB a second."""
    alpha, beta = lab.guest("alpha"), lab.guest("beta")
    assert command("capture", "alpha", "beta").code == 0
    beta.shell("dd if=/dev/urandom of=/mnt/vdb/much bs=1M count=16 && sync")
    capturing = command.begin("capture", "alpha", "beta", "--limit-rate", "1M")
    wait_until_transferring(system.redis, capturing)
    wait_for("alpha: its backup ends", lambda: not has_job(alpha), 60.0)
    assert has_job(beta)
    assert capturing.poll() is None
    wait_for("alpha: its scratch files go", lambda: not list(scratch.glob(f"*/{alpha.uuid}.*")), 10.0)
    assert list(scratch.glob(f"*/{beta.uuid}.*"))
    assert command.finish(capturing).code == 0
    assert list(scratch.iterdir()) == []


@pytest.mark.case("G6")
def test_a_guest_that_is_shut_down_while_it_is_read_keeps_no_bitmap(system: System, lab: Lab, command: Command) -> None:
    alpha = lab.guest("alpha")
    detach(system, "alpha", "--yes")
    assert bitmaps_of(alpha) == []
    capturing = command.begin("capture", "alpha", "--limit-rate", "1M")
    wait_until_transferring(system.redis, capturing)
    alpha.shutdown(acpi=False)
    outcome = command.finish(capturing)
    try:
        assert outcome.error["code"] == "guest-stopped", outcome.answer
        assert outcome.code == FAILED
        assert "Guest alpha was shut down while disk" in outcome.error["message"]
        wait_for("alpha: its bitmaps go", lambda: bitmaps_of(alpha) == [], 60.0)  # once libvirt has let go of its QEMU
        assert alpha.domain.listAllCheckpoints() == []
    finally:
        alpha.start()
        alpha.wait_ready()


@pytest.mark.case("G7")
def test_a_guest_that_was_detached_can_be_undefined(system: System, lab: Lab, command: Command) -> None:
    beta = lab.guest("beta")
    assert command("capture", "beta").code == 0
    [name] = [checkpoint.getName() for checkpoint in beta.domain.listAllCheckpoints()]
    [told] = detach(system, "beta", "--yes")["guests"]  # it runs
    assert told["checkpoints"] == [name]
    assert beta.domain.listAllCheckpoints() == []
    assert command("capture", "beta").code == 0
    beta.shutdown()
    definition = beta.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    try:
        assert len(bitmaps_of(beta)) == 2
        with pytest.raises(libvirt.libvirtError, match="checkpoint"):
            beta.domain.undefine()
        detach(system, "beta", "--yes")  # it is off
        assert bitmaps_of(beta) == []
        assert ours_in(beta.image(target) for target in ("vda", "vdb")) == Found({}, {})
        beta.domain.undefine()
    finally:
        beta.host.connection().defineXML(definition)
        beta.start()
        beta.wait_ready()
