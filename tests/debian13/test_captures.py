"""The path and every kind of hold on Debian 13: the other lab's own tests, and proof of whose daemons they met."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.lab import Lab
from ops.lab.host import Host
from ops.lab.profile import QEMU_USER
from tests.lab.test_path import (
    account,
    test_a_capture_is_listed_shown_and_verified,
    test_a_restored_guest_boots_to_its_agent,
    test_a_restored_guest_can_be_defined_under_a_new_name,
    test_all_guests_show_one_instant_and_their_own_memory_agrees,
    test_every_byte_is_what_the_guest_had_at_the_instant,
    test_the_second_capture_reads_at_most_what_changed,
)
from tests.lab.test_ways_of_holding import (
    test_a_disk_that_its_mount_points_leave_out_may_be_left_out_of_the_capture,
    test_a_guest_without_an_agent_takes_part_in_one_instant_by_a_pause,
    test_a_mount_point_that_is_not_there_is_refused_before_anything_is_touched,
    test_a_mount_point_with_a_pause_shows_one_instant,
    test_mount_points_that_reach_every_disk_show_one_instant,
    test_nothing_is_claimed_of_a_guest_with_a_disk_that_its_mount_points_leave_out,
)

__all__ = [
    "account",
    "test_a_capture_is_listed_shown_and_verified",
    "test_a_disk_that_its_mount_points_leave_out_may_be_left_out_of_the_capture",
    "test_a_guest_without_an_agent_takes_part_in_one_instant_by_a_pause",
    "test_a_mount_point_that_is_not_there_is_refused_before_anything_is_touched",
    "test_a_mount_point_with_a_pause_shows_one_instant",
    "test_a_restored_guest_boots_to_its_agent",
    "test_a_restored_guest_can_be_defined_under_a_new_name",
    "test_all_guests_show_one_instant_and_their_own_memory_agrees",
    "test_every_byte_is_what_the_guest_had_at_the_instant",
    "test_mount_points_that_reach_every_disk_show_one_instant",
    "test_nothing_is_claimed_of_a_guest_with_a_disk_that_its_mount_points_leave_out",
    "test_the_second_capture_reads_at_most_what_changed",
]


def number(path: Path) -> str:
    return path.read_text().strip()


def program(host: Host, pid: str) -> str:
    return host.run(["readlink", f"/proc/{pid}/exe"]).stdout.strip()


def effective_user(host: Host, pid: str) -> int:
    (line,) = (line for line in host.run(["cat", f"/proc/{pid}/status"]).stdout.splitlines() if line[:4] == "Uid:")
    return int(line.split()[2])


@pytest.mark.case("G1")
def test_a_hosts_daemon_is_virtqemud_with_debian_13s_library(lab: Lab) -> None:
    for host in lab.hosts.values():
        pid = number(host.root / "run/virtqemud.pid")
        mapped = host.run(["cat", f"/proc/{pid}/maps"]).stdout
        version = host.connection().getLibVersion()
        assert program(host, pid) == "/usr/sbin/virtqemud"
        assert "libvirt_driver_qemu.so" in mapped
        assert version // 1_000_000 == 11
        assert f"/usr/lib/x86_64-linux-gnu/libvirt.so.0.{version // 1000}.{version % 1000}" in mapped
        assert not (host.root / "run/libvirtd.pid").exists()
        assert not (host.root / "run/libvirt/libvirt-sock").exists()
        assert program(host, number(host.root / "run/virtsecretd.pid")) == "/usr/sbin/virtsecretd"


@pytest.mark.case("G1")
def test_guests_are_run_by_debian_13s_qemu_as_its_own_user_in_a_mount_namespace_each(lab: Lab) -> None:
    own = {host.profile.ids().user for host in lab.hosts.values()}
    assert len(own) == 1
    for guest in lab.guests.values():
        pid = number(guest.host.root / f"run/libvirt/qemu/{guest.name}.pid")
        mounts = {guest.host.run(["readlink", f"/proc/{one}/ns/mnt"]).stdout for one in (pid, "1")}
        assert program(guest.host, pid) == "/usr/bin/qemu-system-x86_64"
        assert guest.host.connection().getVersion() // 1_000_000 == 10
        assert {effective_user(guest.host, pid)} == own
        assert len(mounts) == 2
        assert {guest.image("vda").stat().st_uid} == own  # libvirt has given it away, from root


def test_qemu_is_configured_as_debian_13_ships_it(lab: Lab) -> None:
    """The package's file sets nothing; what the lab sets is what a machine without systemd needs, as in the other lab."""
    for host in lab.hosts.values():
        assert host.profile.tree is not None
        shipped = (host.profile.tree / "etc/libvirt/qemu.conf").read_text().splitlines()
        assert [line for line in shipped if line.strip() and not line.startswith("#")] == []
        ours = (host.root / "etc/libvirt/qemu.conf").read_text().splitlines()
        assert {line.partition(" ")[0] for line in ours} <= {"cgroup_controllers", "remember_owner"}
        assert f"{QEMU_USER}:" in (host.profile.tree / "etc/passwd").read_text()
