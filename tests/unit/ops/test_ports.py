"""Ports of the lab's servers: none is drawn twice, listened on or not."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.ports import Ports, PortsError, draw_ports

HERE = "127.0.0.1"


def free_range(count: int) -> range:
    """Ports in a row that nobody listens on, below those that the kernel gives."""
    for first in range(11000, 19000, count):
        ports = range(first, first + count)
        if _all_free(ports):
            return ports
    raise AssertionError("no free ports in a row")


def _all_free(ports: range) -> bool:
    try:
        for port in ports:
            with socket.socket() as probe:
                probe.bind((HERE, port))
    except OSError:
        return False
    return True


def test_each_port_is_drawn_once_though_nobody_listens_on_it() -> None:
    """A server that was given its ports may start after the next one has drawn its own."""
    ports = free_range(16)
    drawing = Ports(ports)
    with ThreadPoolExecutor(4) as pool:
        drawn = [port for few in pool.map(lambda count: drawing.draw(HERE, count), [3, 5, 1, 7]) for port in few]
    assert sorted(drawn) == list(ports)
    with pytest.raises(PortsError, match=rf"{HERE} has no 1 free ports between {ports.start} and {ports.stop - 1}\."):
        drawing.draw(HERE)


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    ports = free_range(4)
    with socket.socket() as taken:
        taken.bind((HERE, ports[2]))
        taken.listen()
        assert sorted(Ports(ports).draw(HERE, 3)) == [ports[0], ports[1], ports[3]]


def test_an_address_that_the_machine_has_not_is_told_as_that() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        Ports().draw("192.0.2.1")


def test_servers_of_one_process_draw_from_the_same_ports() -> None:
    assert not set(draw_ports(HERE, 50)) & set(draw_ports(HERE, 50))
