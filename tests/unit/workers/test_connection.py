"""Data connections: against a real qemu-nbd, and against servers that do what a real one seldom does."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.qemu_nbd import serving
from workers import connection
from workers.connection import REQUEST_BYTES, DataConnection
from workers.export import ExportError
from workers.peer import Peer

HERE = Peer("this test", os.getpid())
SIZE = 3 * REQUEST_BYTES + 512


class Served(NamedTuple):
    path: Path
    peer: Peer


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "disk").write_bytes(content)
    path = folder / "socket"
    options = ["--read-only", "--persistent", "--shared=4", "--format=raw", "--export-name=vda"]
    with serving(path, folder / "disk", options) as process:
        yield Served(path, Peer("qemu-nbd", process.pid))


def read(data: DataConnection, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    data.complete(data.begin(start, memoryview(buffer)))
    return bytes(buffer)


def test_what_qemu_serves_is_read(served: Served, content: bytes) -> None:
    with DataConnection(served.path, "vda", served.peer) as data:
        assert data.size_bytes == SIZE
        assert read(data, 0, SIZE) == content  # several requests
        assert read(data, 1000, 7) == content[1000:1007]
        assert read(data, 0, 0) == b""


def test_reads_may_be_completed_in_another_order(served: Served, content: bytes) -> None:
    with DataConnection(served.path, "vda", served.peer) as data:
        buffers = [bytearray(1000) for _ in range(4)]
        begun = [data.begin(number * 1000, memoryview(buffer)) for number, buffer in enumerate(buffers)]
        for cookies in reversed(begun):
            data.complete(cookies)
    assert b"".join(buffers) == content[:4000]


def test_many_connections_at_once(served: Served, content: bytes) -> None:
    with DataConnection(served.path, "vda", served.peer) as one, DataConnection(served.path, "vda", served.peer) as two:
        assert read(one, 0, 1000) + read(two, 1000, 1000) == content[:2000]


def test_an_export_that_is_not_there_is_named(served: Served) -> None:
    with pytest.raises(ExportError, match=r"Connecting to the export of disk vdx at .* failed: .*vdx"):
        DataConnection(served.path, "vdx", served.peer)


def test_a_read_that_the_server_refuses_is_told(served: Served) -> None:
    with (
        DataConnection(served.path, "vda", served.peer) as data,
        pytest.raises(ExportError, match="Reading the export of disk vda"),
    ):
        read(data, SIZE, 512)


def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Connecting to the export of disk vda at .* failed: No such file"):
        DataConnection(tmp_path / "none", "vda", HERE)


# Servers that are made here.

GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 1)
OPTION_REPLY = struct.Struct(">QIII")
REQUEST = struct.Struct(">IHHQQI")


def option_reply(kind: int, content: bytes = b"", magic: int = 0x3E889045565A9) -> bytes:
    return OPTION_REPLY.pack(magic, 7, kind, len(content)) + content


def export_info(size: int) -> bytes:
    return option_reply(3, struct.pack(">HQH", 0, size, 1))


AGREED = export_info(1 << 20) + option_reply(1)


def reply(cookie: int, data: bytes = b"", error: int = 0, magic: int = 0x67446698) -> bytes:
    return struct.pack(">IIQ", magic, error, cookie) + data


@contextmanager
def server(
    answer: Callable[[socket.socket], None], greeting: bytes = GREETING, agreed: bytes = AGREED
) -> Iterator[Path]:
    """One client is negotiated with, and then `answer`ed; then the connection is closed."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(Path(folder) / "socket"))
        listening.listen()

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.sendall(greeting)
                if greeting == GREETING:
                    received(peer, 4 + 16)
                    received(peer, 4 + len("vda") + 2)
                    peer.sendall(agreed)
                    if agreed == AGREED:
                        answer(peer)
                peer.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):  # a client that has enough leaves what it has not read
                    while peer.recv(4096):  # or the client's next call would fail before it has read all
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Path(folder) / "socket"
        finally:
            thread.join()


def received(peer: socket.socket, count: int) -> bytes:
    taken = peer.recv(count, socket.MSG_WAITALL)
    assert len(taken) == count
    return taken


def requests(peer: socket.socket, count: int) -> list[tuple[int, int, int]]:
    """Cookie, offset and length of each."""
    found = []
    for _ in range(count):
        magic, flags, kind, cookie, offset, length = REQUEST.unpack(received(peer, REQUEST.size))
        assert (magic, flags, kind) == (0x25609513, 0, 0)
        found.append((cookie, offset, length))
    return found


def pattern(offset: int, length: int) -> bytes:
    return bytes((at * 7) % 251 for at in range(offset, offset + length))


def nothing(_peer: socket.socket) -> None:
    pass


@given(st.permutations(range(4)), st.integers(1, 700), st.lists(st.integers(1, 2000), min_size=4, max_size=4))
@settings(max_examples=30, deadline=None)
def test_answers_may_come_in_any_order_and_in_any_pieces(order: list[int], piece: int, lengths: list[int]) -> None:
    def answer(peer: socket.socket) -> None:
        asked = requests(peer, 4)
        answers = b"".join(
            reply(cookie, pattern(offset, length)) for cookie, offset, length in (asked[one] for one in order)
        )
        for at in range(0, len(answers), piece):
            peer.sendall(answers[at : at + piece])

    with server(answer) as path, DataConnection(path, "vda", HERE) as data:
        buffers = [bytearray(length) for length in lengths]
        begun = [data.begin(number * 3000, memoryview(buffer)) for number, buffer in enumerate(buffers)]
        for cookies in begun:
            data.complete(cookies)
    assert buffers == [pattern(number * 3000, length) for number, length in enumerate(lengths)]


def test_the_requests_of_a_chunk_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_BYTES", 300)
    asked: list[tuple[int, int, int]] = []

    def answer(peer: socket.socket) -> None:
        asked.extend(requests(peer, 4))
        peer.sendall(b"".join(reply(cookie, pattern(offset, length)) for cookie, offset, length in asked))

    with server(answer) as path, DataConnection(path, "vda", HERE) as data:
        assert read(data, 5000, 1000) == pattern(5000, 1000)
    assert [(offset, length) for _, offset, length in asked] == [(5000, 300), (5300, 300), (5600, 300), (5900, 100)]


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        (lambda cookie: reply(cookie, error=5), "Input/output error"),
        (lambda cookie: reply(cookie, bytes(100), magic=0x668E33EF), "none of NBD's"),
        (lambda cookie: reply(cookie + 7, bytes(100)), "none of NBD's"),
        (lambda cookie: reply(cookie, bytes(100)) + reply(cookie, bytes(100)), "none of NBD's"),
        (lambda cookie: reply(cookie, bytes(99)), "closed the connection"),
        (lambda cookie: reply(cookie)[:-1], "closed the connection"),
        (lambda _cookie: b"", "closed the connection"),
    ],
    ids=["error", "structured", "unknown", "twice", "cut", "cut header", "none"],
)
def test_an_answer_that_is_not_what_was_asked_for_is_told(answers: Callable[[int], bytes], what: str) -> None:
    def answer(peer: socket.socket) -> None:
        (first, _, _), _ = requests(peer, 2)
        peer.sendall(answers(first))

    with server(answer) as path, DataConnection(path, "vda", HERE) as data:
        buffers = bytearray(100), bytearray(100)
        begun = [data.begin(0, memoryview(buffer)) for buffer in buffers]
        with pytest.raises(ExportError, match=f"the export of disk vda at .*{what}"):
            data.complete(range(begun[0].start, begun[1].stop))


@pytest.mark.parametrize(
    ("greeting", "agreed", "what"),
    [
        (b"HTTP/1.1 200 OK..", AGREED, "is no NBD server"),
        (b"NBDMAGICIHAVEOPT" + bytes(2), AGREED, "older than"),
        (b"NBDMAGIC", AGREED, "closed the connection"),
        (GREETING, option_reply(0x80000006, b"no such export"), "no such export"),
        (GREETING, option_reply(0x80000002), "error 2"),
        (GREETING, option_reply(1, magic=1), "is no NBD server"),
        (GREETING, OPTION_REPLY.pack(0x3E889045565A9, 7, 3, 1 << 30), "is no NBD server"),
        (GREETING, option_reply(1), "does not tell its size"),
        (GREETING, option_reply(3, struct.pack(">HI", 3, 4)) + option_reply(1), "does not tell its size"),
        (GREETING, b"", "closed the connection"),
    ],
)
def test_a_server_that_does_not_agree_is_told(greeting: bytes, agreed: bytes, what: str) -> None:
    with (
        server(nothing, greeting, agreed) as path,
        pytest.raises(ExportError, match=f"the export of disk vda at .*{what}"),
    ):
        DataConnection(path, "vda", HERE)
