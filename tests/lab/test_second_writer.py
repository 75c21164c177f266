"""A guest that begins to write to another guest's disk while it is read: nothing of the disk's guest is sealed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from ops.lab import Lab, blank
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System
from ops.trial.truth import transfers_paused, wait_until_transferring
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain

from .command import Command
from .inventory import one_more_guest

pytestmark = pytest.mark.case("P2")

FAILED, PARTIAL = 1, 10
HOST = "host-a"


@pytest.fixture(scope="module")
def guests(lab: Lab, system: System) -> Iterator[tuple[Guest, Guest]]:
    """Two guests of one host that nobody else needs."""
    with (
        one_more_guest(system, lab, HOST, "shown", blank(1, 64)) as shown,
        one_more_guest(system, lab, HOST, "writer", blank(1, 64)) as writer,
    ):
        yield shown, writer


@pytest.fixture(scope="module")
def device(guests: tuple[Guest, Guest]) -> Iterator[Path]:
    """Storage that no QEMU locks, as a block device or a LUN is; both guests can reach it."""
    folder = guests[0].folder
    image, socket = folder / "shared.raw", folder / "shared.sock"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    line = ["qemu-nbd", "--persistent", "--shared=0", "--format=raw", f"--socket={socket}", os.fspath(image)]
    with subprocess.Popen(line) as server:
        wait_for("qemu-nbd", socket.exists, 10.0)
        socket.chmod(0o666)
        yield socket
        server.terminate()


def disk(device: Path, target: str) -> str:
    source = f"<source protocol='nbd' name=''><host transport='unix' socket='{device}'/></source>"
    driver = "<driver name='qemu' type='raw'/>"
    return f"<disk type='network' device='disk'>{driver}{source}<target dev='{target}' bus='virtio'/></disk>"


@pytest.fixture(scope="module")
def shown(guests: tuple[Guest, Guest], device: Path) -> Guest:
    guests[0].domain.attachDeviceFlags(disk(device, "vdb"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    return guests[0]


def restart(guest: Guest, xml: str) -> None:
    """Have the guest start anew with this definition."""
    if guest.domain.isActive():
        guest.domain.destroy()
    guest.host.connection().defineXML(xml)
    guest.domain.create()


def give(guest: Guest, device: Path) -> None:
    guest.domain.attachDeviceFlags(disk(device, "vdz"), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def backup_ends(guest: Guest) -> None:
    wait_for("its backup to end", lambda: backup.current_socket(Domain(guest.domain)) is None, 30.0)


@pytest.mark.parametrize(
    ("policy", "way"), [("all", "starts and stops"), ("degrade", "starts"), ("all", "is given it and loses it")]
)
def test_a_guest_that_comes_upon_a_disk_that_is_read_costs_that_disk_s_guest(
    system: System,
    command: Command,
    shown: Guest,
    guests: tuple[Guest, Guest],
    device: Path,
    policy: str,
    way: str,
) -> None:
    words = ("capture", shown.name, "gamma", "--guest-hold", f"{shown.name}:pause", "--policy", policy)
    writer = guests[1]
    before = writer.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert command(*words).answer["consistency"] == "group"
    with transfers_paused(system):
        capturing = command.begin(*words)
        wait_until_transferring(system.redis, capturing)
        if way == "is given it and loses it":
            give(writer, device)
            backup_ends(shown)
            writer.domain.detachDeviceFlags(disk(device, "vdz"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
            wait_for("the disk to be gone", lambda: "'vdz'" not in writer.domain.XMLDesc(), 30.0)
        else:
            restart(writer, before.replace("</disk>", f"</disk>{disk(device, 'vdz')}", 1))
        if way == "starts and stops":
            backup_ends(shown)
            writer.domain.destroy()
    outcome = command.finish(capturing)
    restart(writer, before)
    writer.wait_agent()
    if policy == "all":
        assert outcome.code == FAILED, outcome.stderr
        fault = outcome.error
    else:
        assert outcome.code == PARTIAL, outcome.stderr
        fault, *more = outcome.answer["faults"]  # of each disk that was not read yet
        assert {one["message"] for one in more} <= {fault["message"]}
        assert [one["guest"] for one in outcome.answer["guests"]] == ["gamma"]
    assert (fault["code"], fault["guest"]) == ("disk-shared", shown.name)
    assert f"disk vdz of the running guest {writer.name} writes to the same storage" in fault["message"]


def test_a_guest_whose_disk_has_lost_its_path_costs_no_other_guest_its_label(
    command: Command, shown: Guest, guests: tuple[Guest, Guest]
) -> None:
    """As a LUN whose link in /dev/disk/by-path is gone: the descriptors of its QEMU tell that it writes elsewhere."""
    writer = guests[1]
    image, link = writer.folder / "own.raw", writer.folder / "by-path"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    link.symlink_to(image)
    source = f"<driver name='qemu' type='raw'/><source file='{link}'/><target dev='vdy' bus='virtio'/>"
    if not writer.domain.isActive():
        writer.domain.create()
    more = f"<disk type='file' device='disk'>{source}</disk>"
    writer.domain.attachDeviceFlags(more, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    link.unlink()
    captured = command("capture", shown.name, "gamma", "--guest-hold", f"{shown.name}:pause")
    assert captured.answer["consistency"] == "group", captured.stderr
    assert captured.answer["warnings"] == []
    writer.domain.detachDeviceFlags(more, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    wait_for("the disk to be gone", lambda: "'vdy'" not in writer.domain.XMLDesc(), 30.0)
