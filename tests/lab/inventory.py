"""What the system knows of the lab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from freezeframe.presence import known_hosts
from ops.lab import DiskSpec, Lab
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System


def published(system: System, name: str, *states: str) -> None:
    """Wait until the inventory shows the guest in one of these states."""
    wait_for(f"{name} in the inventory", lambda: bool(_states(system, name) & set(states)), 60.0)


def forgotten(system: System, name: str) -> None:
    """Wait until the inventory shows the guest on no host: a capture of all guests would look for it else."""
    wait_for(f"{name} to leave the inventory", lambda: not _states(system, name), 60.0)


@contextmanager
def one_more_guest(
    system: System,
    lab: Lab,
    host_id: str,
    name: str,
    disks: Sequence[DiskSpec],
    *,
    agent: bool = True,
    uuid: str | None = None,
) -> Iterator[Guest]:
    """A guest beside the lab's own, known to the system as long as it is there."""
    guest = lab.create_guest(host_id, name, disks, agent=agent, uuid=uuid)
    guest.wait_ready(agent=agent)
    published(system, name, "running")
    yield guest
    guest.remove()
    forgotten(system, name)


def _states(system: System, name: str) -> set[str]:
    guests = [guest for host in known_hosts(system.redis) for guest in host.entry.guests]
    return {guest.state for guest in guests if guest.name == name}
