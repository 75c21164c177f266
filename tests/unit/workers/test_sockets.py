"""Who is connected where a QEMU listens: those that were accepted and those that wait, of that socket and no other."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from workers.guard.sockets import connections


@pytest.mark.parametrize("name", ["agent", "with a space ", "ümlaut", "agent (deleted)"])
def test_those_who_wait_are_counted_as_those_who_are_served(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        assert connections(path) is None  # nobody listens yet
        listener.listen(4)
        assert connections(path) == 0
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for client in clients:
            client.connect(str(path))
        assert connections(path) == 2
        with listener.accept()[0]:
            assert connections(path) == 2
            clients[1].close()  # it has given up, and still waits to be accepted
            assert connections(path) == 2
        listener.accept()[0].close()
        assert connections(path) == 0


def test_another_sockets_connections_are_not_counted(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for name in ("agent", "agent2"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / name))
            listener.listen(4)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "agent2"))
        assert connections(tmp_path / "agent") == 0
        assert connections(tmp_path / "agent3") is None


def test_lines_of_another_form_are_passed_over(tmp_path: Path) -> None:
    table = tmp_path / "unix"
    table.write_bytes(
        b"Num RefCount Protocol Flags Type St Inode Path\n\n0: 1 2 00010000 0001 01 77 /agent\nnonsense\n"
    )
    assert connections(Path("/agent"), table) == 0


def test_a_table_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        connections(tmp_path / "agent", tmp_path / "unix")
