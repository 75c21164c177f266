"""Calls that stand hold up no other call of the same process: libvirtd, its limits and its client are real here.

A call that stands for as long as the test wants is a save of libvirt's test driver into a pipe that nobody reads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt
import pytest

from ops.lab import Lab
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain

#: More than libvirtd reads of one client, 5, and fewer than it has threads, 20.
STANDING = 8
GUEST = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
#: Calls beside them, so many that those that stand have come to libvirtd before the last.
CALLS = 10_000
#: Seconds, for all of them; they take two.
PATIENCE_S = 60.0


@pytest.fixture
def hypervisor(lab: Lab) -> Hypervisor:
    """Libvirt's test driver within host-a's libvirtd."""
    return Hypervisor(f"test+unix:///default?socket={lab.host('host-a').socket}")


@contextmanager
def standing_calls(guests: Sequence[Domain], directory: Path) -> Iterator[list[threading.Thread]]:
    """Calls, one for each of these guests, that are on their way until the block ends."""
    pipes = [directory / f"{guest.name}.pipe" for guest in guests]
    threads = [threading.Thread(target=_stand, args=pair) for pair in zip(guests, pipes, strict=True)]
    for pipe, thread in zip(pipes, threads, strict=True):
        os.mkfifo(pipe)
        thread.start()
    try:
        yield threads
    finally:
        while any(thread.is_alive() for thread in threads):
            for pipe in pipes:  # again and again: a save that was sent late comes late to its pipe
                with suppress(FileNotFoundError):  # libvirt takes away what it could not save into
                    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
            threads[0].join(0.05)


def _stand(guest: Domain, pipe: Path) -> None:
    with suppress(libvirt.libvirtError):  # the pipe has no reader any more
        guest.handle.save(str(pipe))


def all_answered(ask: Callable[[], object]) -> bool:
    """Whether libvirt answers many calls in a row."""

    def go_on() -> None:
        for _ in range(CALLS):
            ask()

    asking = threading.Thread(target=go_on)  # it ends at the latest with what it waits for
    asking.start()
    asking.join(PATIENCE_S)
    return not asking.is_alive()


def test_calls_that_stand_hold_up_nobody(lab: Lab, hypervisor: Hypervisor) -> None:
    defined = [hypervisor.define(GUEST.format(f"standing-{number}")) for number in range(STANDING)]
    for guest in defined:
        guest.start()
    guests = [hypervisor.domain(guest.uuid) for guest in defined]
    other = hypervisor.domain(next(guest.uuid for guest in hypervisor.domains() if guest.name == "test"))
    with standing_calls(guests, lab.host("host-a").images) as standing:
        assert all_answered(other.state)
        assert all(thread.is_alive() for thread in standing)
