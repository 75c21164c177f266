"""Connections to the host's libvirt daemon: lent out one caller at a time, kept warm, and replaced when they are lost.

    lend ─▶ one that idles and lives, or a new one ─▶ the caller's alone ─▶ back, when the last that came over it is forgotten

Threads must not share one, though libvirt lets them:

- libvirtd reads no further call of a client that has five under way (`max_client_requests`). Five agents that do not answer
  would keep the guests beside them held.
- libvirt 9.0's client sends the call of a second thread by waking the first, which waits for an answer to its own; between the
  unlocking and the waiting of the first the waking is lost, and the call is sent when the other's has been answered
  (virNetClientIO; seen within minutes).
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import libvirt

from workers.bounded import NO_THREAD, NoThreadError
from workers.hypervisor import passphrases
from workers.hypervisor.disk import parse
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorUnreachableError, telling
from workers.hypervisor.loan import Loan
from workers.hypervisor.schema import set_up_types

#: A daemon that is silent for interval x count seconds is given up, and calls that wait for it return with an error.
KEEPALIVE_INTERVAL_S = 2
KEEPALIVE_COUNT = 5
#: Connections kept warm: two for each guest of a large hold. A process that held more closes the rest.
IDLE = 64


#: As libvirt writes it in its capabilities: numbers, marked as such. [security_dac.c, virSecurityDACGetBaseLabel]
_DAC_LABEL = re.compile(r"\+?(?P<user>\d+):\+?(?P<group>\d+)")


ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class _Kept:
    """A passphrase that libvirt was given, and the connection over which it was: its keeper must not be without a client."""

    loan: Loan
    value: bytes = field(repr=False)
    purpose: str


class Hypervisor:
    """The libvirt daemon behind `uri`. Threads may share one; a process that was forked must make its own.

    `run_dir` is where it notes the guests that run (`workers/qemu_process.py`); None where nobody asks for their processes.
    """

    def __init__(self, uri: str, run_dir: Path | None = None) -> None:
        self._uri = uri
        self.run_dir = run_dir
        self._idle: deque[Any] = deque(maxlen=IDLE)  # no lock: a loan may end wherever Python collects garbage
        self._pid = os.getpid()
        self._kept: dict[str, _Kept] = {}  # by the passphrases' UUIDs

    def lend(self) -> Loan:
        """A live connection that is nobody else's. Raises HypervisorUnreachableError."""
        if self._pid != os.getpid():
            raise RuntimeError("a libvirt connection was carried over a fork")
        return self._loan(self._take_idle() or self._open())

    def _loan(self, connection: Any) -> Loan:
        loan = Loan(connection)
        weakref.finalize(loan, self._idle.append, connection).atexit = False
        return loan

    def _take_idle(self) -> Any:
        """The one that was used last, if it lives; those that do not are closed by being forgotten."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.isAlive():
                return connection

    def _open(self) -> Any:
        _run_events()
        with telling(f"connecting to libvirt at {self._uri}"):
            connection = libvirt.open(self._uri)
            _keep_alive(connection)
        return connection

    def close(self) -> None:
        """Close what idles, and what is on loan when it comes back: it does so to the deque of its time."""
        self._idle = deque(maxlen=IDLE)

    def domain(self, guest_uuid: str) -> Domain:
        """The guest with this UUID, over a connection of its own: for one thread at a time. Raises GuestGoneError."""
        loan = self.lend()
        with telling(f"looking for guest {guest_uuid}"):
            return Domain(loan.connection.lookupByUUIDString(guest_uuid), loan)

    def domains(self) -> list[Domain]:
        """All guests, over one connection: all of them together for one thread at a time."""
        loan = self.lend()
        with telling("listing guests"):
            return [Domain(handle, loan) for handle in loan.connection.listAllDomains()]

    def define(self, domain_xml: str) -> Domain:
        """Define a guest. libvirt checks the XML against its schema."""
        loan = self.lend()
        with telling("defining the guest"):
            return Domain(loan.connection.defineXMLFlags(domain_xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE), loan)

    def keep_secret(self, secret_id: str, value: bytes, purpose: str) -> None:
        """Give libvirt a passphrase for QEMU (`passphrases`). Raises HypervisorError."""
        _, loan = self._ask_keeper(lambda one: passphrases.keep(one, secret_id, value, purpose))
        self._kept[secret_id] = _Kept(loan, value, purpose)

    def keep_again(self, secret_id: str) -> bool:
        """Give libvirt a passphrase that it has lost; return False if this process does not have it. Raises HypervisorError."""
        kept = self._kept.get(secret_id)
        if kept is not None:
            self.keep_secret(secret_id, kept.value, kept.purpose)
        return kept is not None

    def has_secret(self, secret_id: str) -> bool:
        """Return True if libvirt has a passphrase still. Raises HypervisorError."""
        return self._ask_keeper(lambda one: passphrases.has(one, secret_id))[0]

    def forget_secret(self, secret_id: str) -> None:
        """Take a passphrase from libvirt; it may be gone already. Raises HypervisorError."""
        self._ask_keeper(lambda one: passphrases.forget(one, secret_id))
        self._kept.pop(secret_id, None)

    def _ask_keeper(self, call: Callable[[Any], ResultT]) -> tuple[ResultT, Loan]:
        """Return what `call` does, and the connection over which it was done.

        virtqemud keeps a connection to virtsecretd for each of its clients, and does not replace it when virtsecretd ends: from
        then on every call of that client for passphrases fails. So it is made again over a connection that is new. [seen: 11.3]
        """
        loan = self.lend()
        try:
            return call(loan.connection), loan
        except HypervisorUnreachableError:
            loan = self._loan(self._open())
            return call(loan.connection), loan

    def qemu_user(self) -> tuple[int, int] | None:
        """Return the user and group of QEMUs whose guests' definitions name none; None if libvirt does not tell."""
        loan = self.lend()
        with telling("asking for libvirt's capabilities"):
            root = parse(loan.connection.getCapabilities())
        label = root.findtext("host/secmodel[model='dac']/baselabel") or ""
        match = _DAC_LABEL.fullmatch(label)
        return (int(match["user"]), int(match["group"])) if match else None

    def emulators(self) -> frozenset[str]:
        """Return the programs that libvirt runs guests with on this host."""
        loan = self.lend()
        with telling("asking for libvirt's capabilities"):
            root = parse(loan.connection.getCapabilities())
        return frozenset(text for one in root.iterfind("guest//emulator") if (text := one.text))

    def set_up_types(self) -> None:
        """Call before backups are begun side by side (`schema`). Raises HypervisorUnreachableError."""
        loan = self.lend()
        set_up_types(loan.connection)

    def versions(self) -> tuple[str, str]:
        """Versions of libvirt and QEMU, dotted."""
        loan = self.lend()
        with telling("asking for versions"):
            return _dotted(loan.connection.getLibVersion()), _dotted(loan.connection.getVersion())


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
        _start(threading.Thread(target=_loop, name="libvirt-events", daemon=True))
        _events_pid.append(os.getpid())


def _start(thread: threading.Thread) -> None:
    """Start a thread. Raises HypervisorUnreachableError: without the event loop no connection is opened."""
    try:
        thread.start()
    except NO_THREAD as error:
        none = NoThreadError.of(error)
        raise HypervisorUnreachableError(f"libvirt cannot be asked. {none}", advice=none.hint) from error


def _loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
