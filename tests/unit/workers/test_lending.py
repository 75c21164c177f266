"""Connections to libvirt: one caller each, used again, and never a dead one."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import libvirt
import pytest

from workers.hypervisor.connection import IDLE, Hypervisor


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The connections that were opened, in order."""
    made: list[Any] = []
    really = libvirt.open

    def remembering(uri: str) -> Any:
        made.append(really(uri))
        return made[-1]

    monkeypatch.setattr(libvirt, "open", remembering)
    yield made
    made.clear()


@pytest.fixture
def hypervisor() -> Hypervisor:
    return Hypervisor("test:///default")


def test_two_callers_never_have_the_same_connection(hypervisor: Hypervisor) -> None:
    first, second = hypervisor.domains()[0], hypervisor.domains()[0]
    assert first.handle.connect() is not second.handle.connect()
    again = hypervisor.domain(first.uuid)
    assert again.handle.connect() not in {first.handle.connect(), second.handle.connect()}


def test_what_was_given_back_is_used_again(hypervisor: Hypervisor, opened: list[Any]) -> None:
    for _ in range(10):
        hypervisor.domain(hypervisor.domains()[0].uuid)
        hypervisor.versions()
    assert len(opened) == 1


def test_a_connection_is_lent_as_long_as_any_guest_that_came_over_it_is_looked_at(
    hypervisor: Hypervisor, opened: list[Any]
) -> None:
    hypervisor.define("<domain type='test'><name>other</name><memory>1</memory><os><type>hvm</type></os></domain>")
    kept = hypervisor.domains()[1:]
    hypervisor.versions()
    assert len(opened) == 2
    assert kept[0].handle.connect() is opened[0]


def test_a_dead_connection_is_not_lent(
    hypervisor: Hypervisor, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hypervisor.versions()
    monkeypatch.setattr(opened[0], "isAlive", lambda: 0)
    assert hypervisor.versions()
    assert len(opened) == 2


def test_only_so_many_are_kept(hypervisor: Hypervisor, opened: list[Any]) -> None:
    loans = [hypervisor.lend() for _ in range(IDLE + 2)]
    loans.clear()
    opened.clear()
    gc.collect()
    loans = [hypervisor.lend() for _ in range(IDLE + 2)]
    assert len(opened) == 2


class Validating:
    """A connection to a daemon that minds two first validations at once."""

    inside = 0
    at_most = 0
    validated = 0

    def compareCPU(self, cpu: str, flags: int) -> int:  # noqa: N802  libvirt's name
        assert flags == libvirt.VIR_CONNECT_COMPARE_CPU_VALIDATE_XML
        assert cpu.startswith("<cpu>")
        Validating.inside += 1
        Validating.at_most = max(Validating.at_most, Validating.inside)
        time.sleep(0.01)  # long enough for the others to come
        Validating.inside -= 1
        Validating.validated += 1
        return int(libvirt.VIR_CPU_COMPARE_IDENTICAL)

    def isAlive(self) -> bool:  # noqa: N802  libvirt's name
        return True

    def setKeepAlive(self, _interval_s: int, _count: int) -> None:  # noqa: N802  libvirt's name
        pass


def test_types_are_set_up_by_one_call_at_a_time(hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt, "open", lambda _: Validating())
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(hypervisor.set_up_types)
    assert Validating.validated == 8
    assert Validating.at_most == 1


def test_a_connection_does_not_pass_a_fork(hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    hypervisor.versions()
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    with pytest.raises(RuntimeError, match="over a fork"):
        hypervisor.versions()
