"""A guest on two hosts may just have migrated: nobody decides before both hosts have looked again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract.inventory import HostEntry
from freezeframe.presence import KnownHost
from orchestrator.newer import LOOK_S, newer_hosts

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def host(host_id: str, number: int, *, alive: bool = True) -> KnownHost:
    entry = HostEntry(
        host_id=host_id,
        at=BEGAN + timedelta(seconds=number),
        freezeframe_version="0",
        libvirt_version="9",
        qemu_version="7",
        guests=(),
    )
    return KnownHost(entry, alive)


def looks(*answers: list[KnownHost]) -> tuple[list[KnownHost], int]:
    """The inventory that is decided by, and how many looks it took; the last answer stays."""
    given: list[list[KnownHost]] = []

    def read() -> list[KnownHost]:
        given.append(answers[min(len(given), len(answers) - 1)])
        return given[-1]

    return newer_hosts(read, ("host-a", "host-b"), wait=lambda _: None), len(given)


def both(a: int, b: int, *, alive: bool = True) -> list[KnownHost]:
    return [host("host-a", a, alive=alive), host("host-b", b), host("host-c", 0)]


def test_each_host_must_have_published_twice_since() -> None:
    found, count = looks(both(0, 0), both(1, 1), both(2, 1), both(2, 2), both(3, 3))
    assert (found, count) == (both(2, 2), 4)


def test_a_host_that_is_down_is_not_waited_for() -> None:
    assert looks(both(0, 0), both(0, 1, alive=False), both(0, 2, alive=False)) == (both(0, 2, alive=False), 3)


def test_it_does_not_wait_for_ever() -> None:
    found, count = looks(both(0, 0))
    assert found == both(0, 0)
    assert count == pytest.approx(100, abs=2)


def test_it_pauses_between_two_looks() -> None:
    pauses: list[float] = []
    newer_hosts(lambda: both(0, 0), ("host-a", "host-b"), wait=pauses.append, patience_s=3 * LOOK_S)
    assert pauses == [LOOK_S] * 3


def test_without_patience_it_looks_once() -> None:
    def wait(_: float) -> None:
        raise AssertionError("it waits")

    assert newer_hosts(lambda: both(0, 0), ("host-a", "host-b"), wait=wait, patience_s=0.0) == both(0, 0)
