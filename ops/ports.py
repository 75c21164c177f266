"""Ports for the servers of a lab: each is given once by a process, so that no two of its servers draw the same one."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from itertools import islice
from threading import Lock
from typing import Final

#: Below the ports that the kernel gives to those who connect (`net.ipv4.ip_local_port_range`).
PORTS: Final = range(20000, 32768)


class PortsError(RuntimeError):
    """No port is left. The message has the address."""


class Ports:
    """The ports of a range in an order of chance, each given once, also if nobody listens on it yet."""

    def __init__(self, ports: range = PORTS) -> None:
        self._range = ports
        self._left = iter(random.sample(ports, len(ports)))
        self._lock = Lock()

    def draw(self, address: str, count: int = 1) -> tuple[int, ...]:
        """Return ports on which nobody listens at the address. Raises PortsError; OSError if the address is not here."""
        with self._lock:
            drawn = tuple(islice(self._free(address), count))
        if len(drawn) < count:
            raise PortsError(
                f"{address} has no {count} free ports between {self._range.start} and {self._range.stop - 1}."
            )
        return drawn

    def _free(self, address: str) -> Iterator[int]:
        for port in self._left:
            with socket.socket() as probe:
                try:
                    probe.bind((address, port))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
                    continue
            yield port


_OF_THIS_PROCESS: Final = Ports()


def draw_ports(address: str, count: int = 1) -> tuple[int, ...]:
    """Return ports that this process gave to nobody yet, and on which nobody listens at the address. Raises PortsError."""
    return _OF_THIS_PROCESS.draw(address, count)
