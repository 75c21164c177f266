"""Two guests of which the second records only what the first has already made durable, over ports of the test's own.

    first    n ─▶ disk, synced ─▶ port ──▶ relay ──▶ port ─▶ disk, synced ─▶ port    second
                                            ▲ newest only, one at a time  │
                                            └─────────────────────────────┘

So on any disks that show one instant, the second knows no more than the first. A capture in which it does is inconsistent.
"""

from __future__ import annotations

import selectors
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.lab import Lab, WorkloadSpec, blank
from ops.lab.guest import Guest
from ops.lab.hook import hook_agent
from ops.lab.spec import GuestSpec, LabSpec, Placement
from ops.trial.instant import file_on

PORT = "relay"
RECORD = "/mnt/vda/known"

_FIRST = f"""exec 3>/dev/virtio-ports/{PORT}; n=0
while :; do n=$((n + 1)); echo $n >>{RECORD}; sync -d {RECORD}; echo $n >&3; done"""
_SECOND = f"""exec 3<>/dev/virtio-ports/{PORT}
while read -r n <&3; do echo $n >>{RECORD}; sync -d {RECORD}; echo $n >&3; done"""


def relay_lab() -> LabSpec:
    """`first` on host-a and `second` on host-b."""

    def guest(name: str) -> GuestSpec:
        return GuestSpec(name=name, disks=blank(1, 64), ports=(PORT,), workload=WorkloadSpec(running=False, fill_mib=1))

    places = (Placement(host="host-a", guest=guest("first")), Placement(host="host-b", guest=guest("second")))
    return LabSpec(hosts=("host-a", "host-b"), guests=places)


def freeze_slowly(guest: Guest, seconds: float) -> None:
    """Make every freeze of the guest wait before it begins, as an application's own hook would; it writes on meanwhile."""
    hook_agent(guest, f'#!/bin/sh\n[ "$1" = freeze ] && sleep {seconds}\nexit 0\n')


class Relay:
    """Carries numbers between the two. A context manager: the guests write for as long as it lasts, and then wait."""

    def __init__(self, lab: Lab) -> None:
        self._guests = lab.guest("first"), lab.guest("second")
        self._sockets = [socket.socket(socket.AF_UNIX) for _ in self._guests]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="relay")
        self.carried = 0

    def __enter__(self) -> Self:
        for guest, line in zip(self._guests, self._sockets, strict=True):
            line.connect(str(guest.folder / f"{PORT}.sock"))
        for guest, script in zip(self._guests, (_FIRST, _SECOND), strict=True):
            guest.shell(f"setsid sh -c '{script}' </dev/null >/dev/null 2>&1 &")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for line in self._sockets:
            line.close()

    def _carry(self) -> None:
        """Give the second the newest number of the first whenever it has recorded the one before."""
        first, second = self._sockets
        newest, waiting = b"", True
        partial = {first: b"", second: b""}
        with selectors.DefaultSelector() as selector:
            selector.register(first, selectors.EVENT_READ)
            selector.register(second, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(0.2):
                    line = key.fileobj
                    assert isinstance(line, socket.socket)
                    *whole, partial[line] = (partial[line] + line.recv(65536)).split(b"\n")
                    if whole and line is first:
                        newest = whole[-1]
                    elif whole:
                        waiting = True
                if waiting and newest:
                    second.sendall(newest + b"\n")
                    self.carried += 1
                    newest, waiting = b"", False


def last_known(image: Path) -> int:
    """The last whole number on a captured disk."""
    whole, _, _ = file_on(image, "/known").rpartition(b"\n")
    return int(whole.split()[-1])
