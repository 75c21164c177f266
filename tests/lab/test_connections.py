"""Calls that stand hold up no other call of the same process: libvirtd, its limits and its client are real here.

A call that stands for as long as the test wants is a save of libvirt's test driver into a pipe that nobody reads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import libvirt
import pytest

from ops.lab import Lab
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain

#: More than libvirtd reads of one client, 5, and fewer than it has threads, 20.
STANDING = 8
GUEST = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
#: Calls in a row, each right after the answer to the one before: libvirt's client, shared, loses a waking within some.
CALLS = 20_000
#: Seconds, for all of them; they take two.
PATIENCE_S = 120.0


@pytest.fixture
def hypervisor(lab: Lab) -> Hypervisor:
    """Libvirt's test driver within host-a's libvirtd."""
    return Hypervisor(f"test+unix:///default?socket={lab.host('host-a').socket}")


@contextmanager
def standing_call(domain: Domain, pipe: Path) -> Iterator[threading.Thread]:
    """A call for this guest that is on its way until the block ends."""
    os.mkfifo(pipe)

    def stand() -> None:
        with suppress(libvirt.libvirtError):  # the pipe has no reader any more
            domain.handle.save(str(pipe))

    thread = threading.Thread(target=stand)
    thread.start()
    try:
        yield thread
    finally:
        while thread.is_alive():  # opened for reading as often as it takes: a save may not have come to its pipe yet
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
            thread.join(0.05)


def all_answered(ask: Callable[[], object]) -> bool:
    """Whether libvirt answers many calls in a row, each sent right after the answer to the one before."""

    def go_on() -> None:
        for _ in range(CALLS):
            ask()

    asking = threading.Thread(target=go_on)  # it ends at the latest with what it waits for
    asking.start()
    asking.join(PATIENCE_S)
    return not asking.is_alive()


def test_calls_that_stand_hold_up_nobody(lab: Lab, hypervisor: Hypervisor) -> None:
    images = lab.host("host-a").images
    defined = [hypervisor.define(GUEST.format(f"standing-{number}")) for number in range(STANDING)]
    for guest in defined:
        guest.start()
    guests = [hypervisor.domain(guest.uuid) for guest in defined]
    other = hypervisor.domain(next(guest.uuid for guest in hypervisor.domains() if guest.name == "test"))
    with ExitStack() as stack:
        standing = [stack.enter_context(standing_call(guest, images / f"{guest.name}.pipe")) for guest in guests]
        assert all_answered(other.state)
        assert all(thread.is_alive() for thread in standing)


def test_a_call_that_stands_holds_up_nobody_who_asks_for_the_same_guest(lab: Lab, hypervisor: Hypervisor) -> None:
    [test] = [guest for guest in hypervisor.domains() if guest.name == "test"]
    other = hypervisor.domain(test.uuid)
    with standing_call(test, lab.host("host-a").images / "test.pipe") as standing:
        assert all_answered(other.handle.connect().getLibVersion)
        assert standing.is_alive()
