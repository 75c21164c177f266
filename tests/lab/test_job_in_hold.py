"""A guest whose migration begins while its host waits at the muster: left alone, and the others are not held for its sake."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import libvirt
import pytest

from ops.lab import Lab, blank
from ops.lab.waiting import wait_for
from ops.system import System

from .command import Command
from .inventory import one_more_guest
from .muster import mustering
from .test_moved import migrate, running, wait_published

PARTIAL = 10
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
