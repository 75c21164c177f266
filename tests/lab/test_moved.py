"""Guests that migrate, by libvirt's own live migration between two hosts: found again, or refused with the reason.

The guest's images stay where they are; the lab's hosts share a file system, as hosts between which guests migrate do.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import libvirt
import pytest

from freezeframe.contract import names
from freezeframe.presence import known_hosts
from ops.lab import Lab, blank
from ops.lab.host import Host
from ops.lab.waiting import wait_for
from ops.system import System
from workers.hypervisor import checkpoint, lost
from workers.hypervisor.domain import Domain

from .command import Command
from .inventory import one_more_guest

REFUSED = 3
_LIVE = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PERSIST_DEST
#: Caches off is what libvirt asks for before it trusts shared images; on one kernel there is only one cache.
_UNSAFE = libvirt.VIR_MIGRATE_UNSAFE


def migrate(lab: Lab, name: str, target: str, *, keep: bool = False, mib_per_s: int = 0) -> None:
    """Move a running guest; `keep` leaves its definition on the old host, shut off. Raises libvirtError."""
    there = lab.host(target)
    parameters: dict[str, str | int] = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{there.address}"}
    if mib_per_s:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = mib_per_s
    flags = _LIVE | _UNSAFE | (0 if keep else libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
    running(lab, name).migrate3(there.another_connection(), parameters, flags)


def running(lab: Lab, name: str) -> libvirt.virDomain:
    """The guest where it runs, and is not only arriving; over a connection that is the caller's."""
    [found] = [domain for host in lab.hosts.values() if (domain := _domain(host, name)) and _is_running(domain)]
    return found


def _domain(host: Host, name: str) -> libvirt.virDomain | None:
    with suppress(libvirt.libvirtError):
        return host.another_connection().lookupByName(name)
    return None


def _is_running(domain: libvirt.virDomain) -> bool:
    return bool(domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)


def wait_published(system: System, name: str, *host_ids: str) -> None:
    """Wait until the inventory shows the guest alive on exactly these hosts."""

    def shown() -> bool:
        found = {
            host.entry.host_id
            for host in known_hosts(system.redis)
            for guest in host.entry.guests
            if guest.name == name and guest.state in {"running", "paused"}
        }
        return found == set(host_ids)

    wait_for(f"{name} in the inventory", shown, 20.0)


@pytest.fixture(scope="module")
def mover(lab: Lab, system: System) -> Iterator[str]:
    """The name of a guest on host-a, where every test leaves it."""
    with one_more_guest(system, lab, "host-a", "mover", blank(1, 64)) as guest:
        yield guest.name


@contextmanager
def control_stopped(system: System, host_id: str) -> Iterator[None]:
    """The host's control worker takes no orders meanwhile; within ten seconds nobody takes the host for dead."""
    part = system.parts[f"control@{host_id}"]
    part.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        part.signal(signal.SIGCONT)
        part.process.send_signal(signal.SIGCONT)  # nsenter stops when its child is stopped


@pytest.mark.parametrize("keep", [False, True], ids=["gone from its old host", "left there shut off"])
def test_a_guest_that_migrates_between_planning_and_prepare_is_captured_where_it_runs(
    command: Command,
    lab: Lab,
    system: System,
    mover: str,
    keep: bool,  # noqa: FBT001
) -> None:
    with control_stopped(system, "host-a"):
        capture = command.begin("capture", "alpha", "gamma", mover)
        wait_for("the plan", lambda: system.redis.exists(names.ACTIVE_RUNS_KEY) > 0, 20.0)
        migrate(lab, mover, "host-b", keep=keep)
    outcome = command.finish(capture)
    try:
        assert outcome.code == 0, outcome.stderr
        assert outcome.answer["consistency"] == "group"
        places = sorted((guest["guest"], guest["host"]) for guest in outcome.answer["guests"])
        assert places == [("alpha", "host-a"), ("gamma", "host-b"), (mover, "host-b")]
    finally:
        migrate(lab, mover, "host-a")
        wait_published(system, mover, "host-a")


@pytest.fixture
def migrating(lab: Lab, system: System, mover: str) -> Iterator[str]:
    """The guest on its way from host-a to host-b, for minutes; it never arrives."""
    ended: list[libvirt.libvirtError] = []

    def move() -> None:
        try:
            migrate(lab, mover, "host-b", mib_per_s=1)
        except libvirt.libvirtError as error:
            ended.append(error)

    source = running(lab, mover)
    moving = threading.Thread(target=move)
    moving.start()
    try:
        wait_published(system, mover, "host-a", "host-b")
        yield mover
        assert source.jobStats()["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT  # undisturbed
    finally:
        source.abortJob()
        moving.join()
    assert len(ended) == 1
    wait_published(system, mover, "host-a")


@pytest.mark.parametrize(
    ("where", "direction"), [("host-a", "migration to another host"), ("host-b", "migration from another host")]
)
def test_a_guest_that_is_migrating_is_refused_on_both_hosts_and_migrates_on(
    command: Command, migrating: str, where: str, direction: str
) -> None:
    for hold in ("freeze", "none"):
        outcome = command("capture", f"{migrating}@{where}", "--hold", hold)
        assert outcome.code == REFUSED, outcome.stderr
        assert outcome.error["code"] == "guest-migrating"
        assert (outcome.error["guest"], outcome.error["host"]) == (migrating, where)
        assert direction in outcome.error["message"]


@pytest.mark.case("G6")
def test_migrations_leave_no_bitmap_without_a_checkpoint_once_the_guest_is_captured_again(
    command: Command, lab: Lab, system: System, mover: str
) -> None:
    """Checkpoints do not move with a guest, its bitmaps do: each migration leaves one for each disk."""
    for target in ("host-b", "host-a"):
        assert command("capture", mover).code == 0
        migrate(lab, mover, target)
        wait_published(system, mover, target)
    assert command("capture", mover).code == 0
    guest = Domain(running(lab, mover))
    [name] = checkpoint.names(guest)
    assert [bitmap for _, bitmap in lost.own_bitmaps(guest)] == [name]
