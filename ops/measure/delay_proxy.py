"""An HTTP proxy that is far away: each request's first byte takes longer, and no byte after it. It counts requests.

    client ─▶ request ── delay ──▶ server ─▶ answer ─▶ client        any number of connections at once, each kept open

`python -m ops.measure.delay_proxy HOST PORT` prints its own port, then obeys a line at a time: `delay 30` (ms), `count`. It
ends with its input.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PIECE_BYTES: Final = 256 << 10
_LIMIT_BYTES: Final = 1 << 20
_HEAD_ENDS: Final = b"\r\n\r\n"

#: Answers that never have a body. [RFC 9110, 6.4.1]
_WITHOUT_BODY: Final = frozenset({b"204", b"304"})


@dataclass(frozen=True)
class Head:
    """A request's or an answer's first lines."""

    raw: bytes

    @property
    def first(self) -> bytes:
        """The method, or of an answer the version."""
        return self.raw.partition(b" ")[0]

    @property
    def status(self) -> bytes:
        return self.raw.split(b" ", 2)[1]

    def value(self, name: bytes) -> bytes | None:
        """Return a header's value."""
        for line in self.raw.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return None

    @property
    def is_chunked(self) -> bool:
        return (self.value(b"transfer-encoding") or b"").lower() == b"chunked"

    @property
    def length(self) -> int:
        return int(self.value(b"content-length") or 0)


def has_body(request: Head, answer: Head) -> bool:
    """Return True if the answer to that request has a body. Pure."""
    return request.first != b"HEAD" and answer.status not in _WITHOUT_BODY


class DelayProxy:
    """Serve on loopback, in front of a server."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.delay_s = 0.0
        self.requests = 0

    async def serve(self) -> asyncio.Server:
        """Return the listening server."""
        return await asyncio.start_server(self._connected, self._server[0], 0, limit=_LIMIT_BYTES, backlog=512)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._server, limit=_LIMIT_BYTES)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while (request := await _head(reader)) is not None:
                self.requests += 1
                await asyncio.sleep(self.delay_s)
                await _pass_on(request, reader, there_writer)
                answer = await _head(there_reader)
                if answer is None:
                    break
                if has_body(request, answer):
                    await _pass_on(answer, there_reader, writer)
                else:
                    writer.write(answer.raw)
                    await writer.drain()
        for one in (there_writer, writer):
            one.close()


async def _head(reader: asyncio.StreamReader) -> Head | None:
    try:
        return Head(await reader.readuntil(_HEAD_ENDS))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None


async def _pass_on(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(head.raw)
    if head.is_chunked:
        while True:
            size_line = await reader.readuntil(b"\r\n")
            writer.write(size_line)
            size = int(size_line.split(b";")[0], 16)
            await _pass_bytes(size + 2, reader, writer)  # with the line's end after them
            if size == 0:
                return
    await _pass_bytes(head.length, reader, writer)


async def _pass_bytes(left: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while left:
        piece = await reader.read(min(left, _PIECE_BYTES))
        if not piece:
            raise ConnectionResetError
        writer.write(piece)
        await writer.drain()
        left -= len(piece)
    await writer.drain()


async def _main(host: str, port: int) -> None:
    proxy = DelayProxy(host, port)
    server = await proxy.serve()
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, _, value = line.strip().partition(" ")
            if command == "delay":
                proxy.delay_s = float(value) / 1000
            print(proxy.requests, flush=True)


@dataclass
class FarAway:
    """A proxy in a process of its own."""

    process: subprocess.Popen[str]
    endpoint: str

    def delay(self, milliseconds: float) -> None:
        self._tell(f"delay {milliseconds}")

    def requests(self) -> int:
        """Return how many came so far."""
        return self._tell("count")

    def _tell(self, line: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@contextmanager
def far_away(host: str, port: int) -> Iterator[FarAway]:
    """Run a proxy in front of a server, as long as the block lasts."""
    command = [sys.executable, "-m", "ops.measure.delay_proxy", host, str(port)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield FarAway(process, f"http://{host}:{int(process.stdout.readline())}")
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
