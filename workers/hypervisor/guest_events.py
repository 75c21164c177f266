"""Tell of guests that start, stop, or may have got another disk, as libvirt does: over a connection that is kept for it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Self

import libvirt

from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import telling


@dataclass(frozen=True)
class GuestEvent:
    """A guest that has stopped, or that may use other storage than before; `at_ns` is of the monotonic clock."""

    guest_uuid: str
    at_ns: int
    stopped: bool = False
    adds_none: bool = False  # it uses less at most: a device has gone


class GuestEvents:
    """The events of all guests of a host from now on. Raises HypervisorError if libvirt does not take the registration."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._queue: SimpleQueue[GuestEvent] = SimpleQueue()
        self._loan = hypervisor.lend()
        self._ids: list[int] = []
        with telling("asking for events of guests"):
            self._register(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lived)
            self._register(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, self._added)
            self._register(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._removed)
            self._register(libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, self._worked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ask for no more events: the connection is another caller's next."""
        for one in self._ids:
            with suppress(libvirt.libvirtError):
                self._loan.connection.domainEventDeregisterAny(one)

    def alive(self) -> bool:
        """Return False once the daemon is lost; what happens from then on is not told here."""
        with suppress(libvirt.libvirtError):
            return bool(self._loan.connection.isAlive())
        return False

    def wait(self, patience_s: float) -> list[GuestEvent]:
        """Return what has come, oldest first, as soon as there is any."""
        found = []
        with suppress(Empty):
            found.append(self._queue.get(timeout=patience_s))
            while True:
                found.append(self._queue.get_nowait())
        return found

    def _register(self, event_id: int, callback: Any) -> None:
        self._ids.append(self._loan.connection.domainEventRegisterAny(None, event_id, callback, None))

    def _lived(self, _connection: Any, handle: Any, event: int, _detail: int, _opaque: object) -> None:
        """Take an event in libvirt's thread, which must not wait for libvirt."""
        if event in {libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STOPPED}:
            stopped = event == libvirt.VIR_DOMAIN_EVENT_STOPPED
            self._queue.put(GuestEvent(handle.UUIDString(), time.monotonic_ns(), stopped))

    def _added(self, _connection: Any, handle: Any, _alias: str, _opaque: object) -> None:
        self._queue.put(GuestEvent(handle.UUIDString(), time.monotonic_ns()))

    def _removed(self, _connection: Any, handle: Any, _alias: str, _opaque: object) -> None:
        self._queue.put(GuestEvent(handle.UUIDString(), time.monotonic_ns(), adds_none=True))

    def _worked(self, _connection: Any, handle: Any, _disk: str, kind: int, _status: int, _opaque: object) -> None:
        """A block job writes to its destination, and may end upon it; a backup's, as those of captures, does not."""
        if kind != libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP:
            self._queue.put(GuestEvent(handle.UUIDString(), time.monotonic_ns()))
