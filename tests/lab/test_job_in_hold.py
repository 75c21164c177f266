"""A guest whose migration begins in the muster is left alone; one that leaves in its freeze is thawed where it has gone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract import names
from ops.lab import Lab, blank
from ops.lab.errors import LabError
from ops.lab.guest import Guest
from ops.lab.hook import hook_agent
from ops.lab.waiting import wait_for
from ops.system import System

from .command import Command, Outcome
from .inventory import one_more_guest
from .muster import mustering
from .test_moved import migrate, running, wait_published
from .traces import traces

PARTIAL = 10
#: Long enough for the guest to arrive on its new host before it freezes.
SLOW_HOOK = '#!/bin/sh\ncase "$1" in freeze) sleep 8;; thaw) echo thaw >>/run/thaws;; esac\n'
OUT = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT


@pytest.fixture
def mover(lab: Lab, system: System) -> Iterator[str]:
    with one_more_guest(system, lab, "host-a", "mover", blank(1, 64)) as guest:
        yield guest.name


@pytest.mark.case("G6")
def test_a_guest_whose_migration_begins_in_the_muster_is_neither_frozen_nor_waited_for(
    command: Command, lab: Lab, system: System, mover: str
) -> None:
    source = running(lab, mover)
    ended: list[libvirt.libvirtError] = []

    def move() -> None:
        try:
            migrate(lab, mover, "host-b", mib_per_s=1)  # for minutes: it never arrives
        except libvirt.libvirtError as error:
            ended.append(error)

    moving = threading.Thread(target=move)
    with mustering(system, lambda: command.begin("capture", mover, "gamma", "--policy", "degrade")) as capturing:
        moving.start()
        wait_for("the migration", lambda: source.jobStats().get("operation") == OUT, 20.0)
    try:
        outcome = command.finish(capturing)
        assert source.jobStats()["operation"] == OUT  # undisturbed
    finally:
        source.abortJob()
        moving.join()
    assert len(ended) == 1
    assert outcome.code == PARTIAL, outcome.stderr
    assert [guest["guest"] for guest in outcome.answer["guests"]] == ["gamma"]
    [fault] = outcome.answer["faults"]
    assert (fault["code"], fault["guest"], fault["host"]) == ("guest-migrating", mover, "host-a")
    wait_published(system, mover, "host-a")


@pytest.mark.case("G6", "S4")
def test_a_guest_that_migrates_while_it_is_being_frozen_is_thawed_on_its_new_host(
    command: Command, lab: Lab, system: System, mover: str
) -> None:
    """It is moved with its agent at work, freezes on the other host, and nobody there has held it."""
    hook_agent(lab.guests[mover], SLOW_HOOK)
    source = running(lab, mover)
    capturing = command.begin("capture", mover, "gamma", "--policy", "degrade", "--hold-timeout", "30")
    with freezing(system, source):
        migrate(lab, mover, "host-b")
    there = running(lab, mover)
    _check_left(command.finish(capturing), mover)
    wait_for("the thaw on the other host", lambda: thaws(lab.guests[mover]) > 0, 30.0)
    assert _status(there) == "thawed"
    wait_for("its old host to know", lambda: not system.redis.exists(names.LEFT_HELD_KEY), 30.0)
    migrate(lab, mover, "host-a")
    wait_published(system, mover, "host-a")
    wait_for("the lease to be retired", lambda: traces(system) == [], 60.0)


@pytest.mark.long  # most of a minute for what the migration shows too; the unit tests have both
@pytest.mark.case("G6", "S4")
def test_a_guest_that_is_saved_while_it_is_being_frozen_is_thawed_when_it_is_started_again(
    command: Command, lab: Lab, system: System, mover: str
) -> None:
    guest = lab.guests[mover]
    hook_agent(guest, SLOW_HOOK)
    capturing = command.begin("capture", mover, "gamma", "--policy", "degrade", "--hold-timeout", "30")
    with freezing(system, guest.domain):
        guest.domain.managedSave()
    _check_left(command.finish(capturing), mover)
    guest.domain.create()
    wait_for("the thaw", lambda: thaws(guest) > 0, 60.0)
    assert guest.fsfreeze_status() == "thawed"
    wait_for("the lease to be retired", lambda: traces(system) == [], 60.0)


@contextmanager
def freezing(system: System, domain: libvirt.virDomain) -> Iterator[None]:
    """Within this block a guest of host-a is being frozen: it is leased, and its agent does not answer."""
    leases = system.directory / "host-a" / "state" / "leases"
    with ThreadPoolExecutor(1) as pool:
        wait_for("the lease", lambda: any(leases.glob("*.json")), 60.0, 0.02)
        wait_for("the freeze", lambda: not _answers(pool, domain), 10.0, 0.02)
        yield


def _check_left(outcome: Outcome, mover: str) -> None:
    assert outcome.code == PARTIAL, outcome.stderr
    assert [guest["guest"] for guest in outcome.answer["guests"]] == ["gamma"]
    [fault] = outcome.answer["faults"]
    assert (fault["code"], fault["guest"], fault["host"]) == ("guest-left-held", mover, "host-a")


def thaws(guest: Guest) -> int:
    """Return how often it was thawed, by its own account; it cannot say while it is frozen."""
    try:
        return guest.shell("cat /run/thaws").count("thaw")
    except (LabError, libvirt.libvirtError):
        return 0


def _answers(pool: ThreadPoolExecutor, domain: libvirt.virDomain) -> bool:
    """Return False while its agent is at work on something."""
    try:
        pool.submit(_status, domain).result(0.5)
    except TimeoutError:
        return False
    return True


def _status(domain: libvirt.virDomain) -> str:
    answer = libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-fsfreeze-status"}', 5, 0)
    return str(json.loads(answer)["return"])
