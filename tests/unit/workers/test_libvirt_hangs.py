"""A libvirt call that never returns costs one thread and its own answer; the host goes on telling what it knows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers import inventory, versions
from workers.host import Host
from workers.host_calls import LibvirtHangsError, answered
from workers.hypervisor.connection import Hypervisor
from workers.inventory import entry_of
from workers.versions import KEPT_S, UNKNOWN, Versions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hang() -> Iterator[Callable[..., Any]]:
    """A call that does not return before the test has ended."""
    over = threading.Event()

    def call(*_: object) -> Any:
        over.wait()
        return "1.0.0", "1.0.0"

    yield call
    over.set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PATIENCE_S", 0.05)
    monkeypatch.setattr(inventory, "LISTING_S", 0.05)


@pytest.mark.usefixtures("impatient")
def test_a_host_whose_libvirt_does_not_tell_versions_publishes_its_guests(
    host: Host, hang: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hypervisor, "versions", hang)
    entry = entry_of(host)
    assert [guest.state for guest in entry.guests] == ["running"]
    assert (entry.libvirt_version, entry.qemu_version) == (UNKNOWN, UNKNOWN)


@pytest.mark.usefixtures("impatient")
def test_versions_that_were_known_are_told_while_libvirt_hangs(
    host: Host, hang: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    known = Versions(clock)
    before = known.of(host)
    assert UNKNOWN not in before
    monkeypatch.setattr(Hypervisor, "versions", hang)
    threads = host.calls.threads
    for _ in range(3):
        clock.now += KEPT_S
        assert known.of(host) == before
    assert host.calls.threads <= threads + 1


def test_versions_are_asked_for_seldom(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libvirt may start two QEMUs to answer, and the inventory looks every few seconds."""
    clock, asked = Clock(), []

    def ask(_: Hypervisor) -> tuple[str, str]:
        asked.append(1)
        return "9.0.0", "7.2.0"

    monkeypatch.setattr(Hypervisor, "versions", ask)
    known = Versions(clock)
    for _ in range(10):
        assert known.of(host) == ("9.0.0", "7.2.0")
    assert len(asked) == 1
    clock.now += KEPT_S
    known.of(host)
    assert len(asked) == 2


@pytest.mark.usefixtures("impatient")
def test_a_listing_that_hangs_is_told_and_no_thread_piles_up(
    host: Host, hang: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Versions()
    known.of(host)
    monkeypatch.setattr(inventory, "guest_states", hang)
    threads = host.calls.threads
    for _ in range(3):
        with pytest.raises(LibvirtHangsError, match=r"libvirt of host host-a .*listing the guests"):
            entry_of(host, versions=known)
    assert host.calls.threads <= threads + 1


def test_a_call_that_hangs_keeps_no_other_call_from_its_answer(host: Host, hang: Callable[..., Any]) -> None:
    with pytest.raises(LibvirtHangsError):
        answered(host, "one", 0.05, hang)
    with pytest.raises(LibvirtHangsError):
        answered(host, "one", 60.0, lambda: None)  # at once: threads must not pile up
    assert answered(host, "another", 60.0, lambda: 7) == 7
