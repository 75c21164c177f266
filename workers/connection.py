"""A connection for an export's data, and nothing else: NBD's reads, each taken from the socket in one call into its memory.

    begin ──▶ │ read 1 │ read 2 │ ──▶ QEMU        a request is 28 bytes; those of a chunk leave together
    complete ◀── │ header │ data of 2 │ header │ data of 1 │ ◀── QEMU      answers come in any order

libnbd's Python module wakes up for every piece that the socket holds, some four times for 512 KiB, and takes the GIL twice each
time. Here the kernel wakes the thread once all of it is there (MSG_WAITALL): a transfer takes a twentieth less by the clock
(docs/bench.md). What is asked beside data, as extents and bitmaps, is libnbd's: `workers/export.py`.

The client's half of the fixed newstyle negotiation and of simple replies, without structured ones, for which QEMU would ask
for extents before every read. [NBD protocol, doc/proto.md; QEMU nbd/server.c, nbd_do_cmd_read]
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from workers.export import ExportError
from workers.peer import Peer

#: What one request asks for; a chunk may be several at once. QEMU takes a buffer for each, and from 1 MiB on its libc takes
#: that from the system anew every time, page by page: reading 2.3 GB costs QEMU 1.75 s of CPU at 1 MiB a request, 0.78 s at
#: this, 0.92 s at half of this, and a whole transfer of it 4.35 s by the clock, 3.8 s, and 3.9 s.
REQUEST_BYTES: Final = 512 << 10

_GREETING: Final = b"NBDMAGICIHAVEOPT"
_FIXED_NEWSTYLE: Final = 1
_NO_ZEROES: Final = 2
_OPT_GO: Final = 7
_REP_ACK: Final = 1
_REP_INFO: Final = 3
_REP_ERROR: Final = 1 << 31
_INFO_EXPORT: Final = 0
#: Of an option's reply; a server that says more is not one.
_REPLY_BYTES_MAX: Final = 64 << 10

_OPTION: Final = struct.Struct(">8sII")  # magic, option, length
_OPTION_REPLY: Final = struct.Struct(">QIII")  # magic, option, type, length
_OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
_EXPORT: Final = struct.Struct(">HQH")  # kind of information, size, flags

_REQUEST: Final = struct.Struct(">IHHQQI")  # magic, flags, type, cookie, offset, length
_REQUEST_MAGIC: Final = 0x25609513
_READ: Final = 0
_DISCONNECT: Final = 2
_REPLY: Final = struct.Struct(">IIQ")  # magic, error, cookie
_REPLY_MAGIC: Final = 0x67446698


class DataConnection:
    """One connection to one disk's export. Not for sharing between threads: each opens its own.

    Raises ExportError and WrongPeerError.
    """

    def __init__(self, path: Path, target: str, peer: Peer, note_piece: Callable[[], None] = lambda: None) -> None:
        """`note_piece` is called for each answer that has come, of REQUEST_BYTES at most."""
        self._note_piece = note_piece
        self._what = f"the export of disk {target} at {path}"
        self._header = bytearray(_REPLY.size)
        self._asked: dict[int, memoryview] = {}
        self._cookie = 0
        try:
            self._socket = peer.connect(path)
        except OSError as error:
            raise self._failed("Connecting to", error) from error
        try:
            self.size_bytes = self._negotiate(target.encode())
        except OSError as error:
            self._socket.close()
            raise self._failed("Connecting to", error) from error
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # nothing depends on an orderly end of what only reads
            self._socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, 0, 0, 0))
        self._socket.close()

    def begin(self, start: int, view: memoryview) -> range:
        """Ask for as many bytes as the view has, which must not be touched until `complete` of what this returns."""
        first, requests = self._cookie, []
        for at in range(0, len(view), REQUEST_BYTES):
            piece = view[at : at + REQUEST_BYTES]
            self._asked[self._cookie] = piece
            requests.append(_REQUEST.pack(_REQUEST_MAGIC, 0, _READ, self._cookie, start + at, len(piece)))
            self._cookie += 1
        try:
            self._socket.sendall(b"".join(requests))
        except OSError as error:
            raise self._failed("Reading", error) from error
        return range(first, self._cookie)

    def complete(self, cookies: range) -> None:
        """Wait until the bytes that were asked for are there. Releases the GIL while it waits."""
        try:
            for cookie in cookies:
                while cookie in self._asked:
                    self._take_reply()
        except OSError as error:
            raise self._failed("Reading", error) from error

    def _take_reply(self) -> None:
        self._receive(memoryview(self._header))
        magic, error, cookie = _REPLY.unpack(self._header)
        if magic != _REPLY_MAGIC or cookie not in self._asked:
            raise ExportError(f"{self._what} gave an answer that is none of NBD's to what was asked.")
        if error:
            raise OSError(error, os.strerror(error))  # the protocol's numbers are Linux's
        self._receive(self._asked.pop(cookie))
        self._note_piece()

    def _receive(self, view: memoryview) -> None:
        """All of it; in one call, but for signals."""
        while view:
            count = self._socket.recv_into(view, len(view), socket.MSG_WAITALL)
            if not count:
                raise ConnectionResetError("the server closed the connection")
            view = view[count:]

    def _negotiate(self, name: bytes) -> int:
        """Choose the export; its size. [doc/proto.md, NBD_OPT_GO]"""
        if self._taken(len(_GREETING)) != _GREETING:
            raise ExportError(f"What answers in place of {self._what} is no NBD server.")
        (flags,) = struct.unpack(">H", self._taken(2))
        if not flags & _FIXED_NEWSTYLE:
            raise ExportError(f"The server of {self._what} is older than NBD's fixed newstyle negotiation.")
        chosen = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)  # no further information is asked for
        self._socket.sendall(
            struct.pack(">I", _FIXED_NEWSTYLE | flags & _NO_ZEROES)
            + _OPTION.pack(b"IHAVEOPT", _OPT_GO, len(chosen))
            + chosen
        )
        told = [content for kind, content in self._option_replies() if kind == _REP_INFO]
        exports = [_EXPORT.unpack(content) for content in told if len(content) == _EXPORT.size]
        sizes: list[int] = [size for what, size, _ in exports if what == _INFO_EXPORT]
        if not sizes:
            raise ExportError(f"The server of {self._what} does not tell its size.")
        return sizes[0]

    def _option_replies(self) -> Iterator[tuple[int, bytes]]:
        """Up to the acknowledgement."""
        while True:
            magic, option, kind, length = _OPTION_REPLY.unpack(self._taken(_OPTION_REPLY.size))
            if magic != _OPTION_REPLY_MAGIC or option != _OPT_GO or length > _REPLY_BYTES_MAX:
                raise ExportError(f"What answers in place of {self._what} is no NBD server.")
            content = self._taken(length)
            if kind & _REP_ERROR:
                why = content.decode(errors="replace") or f"error {kind & ~_REP_ERROR}"
                raise ExportError(f"Connecting to {self._what} failed: {why}.")
            if kind == _REP_ACK:
                return
            yield kind, content

    def _taken(self, count: int) -> bytes:
        taken = bytearray(count)
        self._receive(memoryview(taken))
        return bytes(taken)

    def _failed(self, doing: str, error: OSError) -> ExportError:
        return ExportError(f"{doing} {self._what} failed: {error.strerror or error}.")
