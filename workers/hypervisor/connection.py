"""A connection to the host's libvirt daemon that is opened when first needed, kept warm and opened anew when it is lost."""

from __future__ import annotations

import os
import threading
from typing import Any

import libvirt

from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import telling

#: A daemon that is silent for interval x count seconds is given up, and calls that wait for it return with an error.
KEEPALIVE_INTERVAL_S = 2
KEEPALIVE_COUNT = 5


class Hypervisor:
    """The libvirt daemon behind `uri`. Threads may share one; a process that was forked must make its own."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._connection: Any = None
        self._pid = os.getpid()

    def connect(self) -> Any:
        """The live libvirt connection. Raises HypervisorUnreachableError."""
        with self._lock:
            if self._pid != os.getpid():
                raise RuntimeError("a libvirt connection was carried over a fork")
            if self._connection is None or not self._connection.isAlive():
                self._connection = self._open()
            return self._connection

    def _open(self) -> Any:
        _run_events()
        with telling(f"connecting to libvirt at {self._uri}"):
            connection = libvirt.open(self._uri)
            _keep_alive(connection)
        return connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def domain(self, guest_uuid: str) -> Domain:
        """The guest with this UUID. Raises GuestGoneError."""
        connection = self.connect()
        with telling(f"looking for guest {guest_uuid}"):
            return Domain(connection.lookupByUUIDString(guest_uuid))

    def domains(self) -> list[Domain]:
        connection = self.connect()
        with telling("listing guests"):
            return [Domain(handle) for handle in connection.listAllDomains()]

    def define(self, domain_xml: str) -> Domain:
        """Define a guest. libvirt checks the XML against its schema."""
        connection = self.connect()
        with telling("defining the guest"):
            return Domain(connection.defineXMLFlags(domain_xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE))

    def versions(self) -> tuple[str, str]:
        """Versions of libvirt and QEMU, dotted."""
        connection = self.connect()
        with telling("asking for versions"):
            return _dotted(connection.getLibVersion()), _dotted(connection.getVersion())


def _keep_alive(connection: Any) -> None:
    try:
        connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
    except libvirt.libvirtError as error:
        # a driver within this process has no connection that could be lost
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


def _dotted(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


_events = threading.Lock()
_events_pid: list[int] = []


def _run_events() -> None:
    """Run libvirt's event loop in a thread of this process; without it a keepalive does nothing."""
    with _events:
        if os.getpid() in _events_pid:
            return
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # else libvirt prints every error to stderr
        threading.Thread(target=_loop, name="libvirt-events", daemon=True).start()
        _events_pid.append(os.getpid())


def _loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
