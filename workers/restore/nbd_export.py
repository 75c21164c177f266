"""NBD exports as destinations: any server that lets us write, through libnbd; several connections where it promises that a
flush on one covers what was written on the others.

    data    NBD_CMD_WRITE
    zeros   NBD_CMD_WRITE_ZEROES, first with the word that it must be fast; a server that says it would not be is asked without,
            which still keeps zeros off the wire; zeros are written to one that knows no such command
    sync    NBD_CMD_FLUSH; a server without it has nothing to flush, says the protocol [NetworkBlockDevice/nbd doc/proto.md]

Nobody can claim an export: that it is in use by nobody else is for its server, and for whoever names it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import nbd

from workers.restore.destination import LANES, Lane
from workers.restore.errors import DeviceTooSmallError, DeviceUnfitError, TargetFullError, TargetNotWritableError

_ZEROS: Final = bytes(1 << 20)

#: What every server takes in one request [doc/proto.md], and for zeros a length that fits 32 bits.
_REQUEST_BYTES: Final = 32 << 20
_ZERO_BYTES: Final = 512 << 20


class NbdExport:
    """A destination: the export at a URI, through open connections."""

    def __init__(
        self, uri: str, handles: Sequence[Any], size_bytes: int, mark: int, advance: Callable[[int], None]
    ) -> None:
        self.mark = mark
        self.blank_from = size_bytes
        self.advance = advance
        self._uri = uri
        self._handles = handles
        # one connection serves several threads too, one request at a time
        self.lanes: Sequence[Lane] = [_NbdLane(uri, handles[number % len(handles)]) for number in range(LANES)]

    def sync(self) -> None:
        if self._handles[0].can_flush():
            with _telling(self._uri):
                self._handles[0].flush()


class _NbdLane:
    def __init__(self, uri: str, handle: Any) -> None:
        self._uri = uri
        self._nbd = handle
        self._fast = bool(handle.can_zero() and handle.can_fast_zero())
        self._largest = handle.get_block_size(nbd.SIZE_MAXIMUM) or _REQUEST_BYTES

    def write(self, offset: int, data: memoryview) -> None:
        with _telling(self._uri):
            while data:
                self._nbd.pwrite(data[: self._largest], offset)
                offset, data = offset + min(len(data), self._largest), data[self._largest :]

    def read(self, offset: int, length: int) -> bytes:
        found = bytearray()
        with _telling(self._uri):
            while len(found) < length:
                found += self._nbd.pread(min(length - len(found), self._largest), offset + len(found))
        return bytes(found)

    def zero(self, offset: int, length: int) -> None:
        if not self._nbd.can_zero():
            for at in range(0, length, len(_ZEROS)):
                self.write(offset + at, memoryview(_ZEROS)[: min(len(_ZEROS), length - at)])
            return
        for at in range(0, length, _ZERO_BYTES):
            self._zero(offset + at, min(_ZERO_BYTES, length - at))

    def keep(self, offset: int, length: int) -> None:
        """Nothing is kept about it."""

    def _zero(self, offset: int, length: int) -> None:
        if self._fast:
            try:
                self._nbd.zero(length, offset, nbd.CMD_FLAG_FAST_ZERO)
            except nbd.Error as error:
                if error.errnum not in {errno.ENOTSUP, errno.EOPNOTSUPP}:
                    with _telling(self._uri):
                        raise
                self._fast = False
            else:
                return
        with _telling(self._uri):
            self._nbd.zero(length, offset)


@contextmanager
def connected(uri: str, size_bytes: int) -> Iterator[list[Any]]:
    """Connections to the export. Raises DeviceUnfitError and DeviceTooSmallError."""
    with ExitStack() as connections:
        handles = [_open(uri, connections)]
        _check(uri, handles[0], size_bytes)
        if handles[0].can_multi_conn():
            handles += [_open(uri, connections) for _ in range(LANES - 1)]
        yield handles


def _open(uri: str, connections: ExitStack) -> Any:
    handle = nbd.NBD()
    try:
        handle.connect_uri(uri)
    except nbd.Error as error:
        raise DeviceUnfitError(f"Connecting to {uri} failed: {error.string}.") from error
    connections.callback(_close, handle)
    return handle


def _close(handle: Any) -> None:
    with suppress(nbd.Error):  # what was written is known by the flush
        handle.shutdown()


def _check(uri: str, handle: Any, size_bytes: int) -> None:
    if handle.is_read_only():
        raise DeviceUnfitError(f"The server of {uri} lets nobody write.")
    if (found_bytes := handle.get_size()) < size_bytes:
        raise DeviceTooSmallError(f"{uri} has {found_bytes} bytes; the disk has {size_bytes}.")
    if size_bytes % (step := handle.get_block_size(nbd.SIZE_MINIMUM) or 1):
        raise DeviceUnfitError(f"{uri} is written in blocks of {step} bytes, and the disk has {size_bytes} bytes.")


@contextmanager
def _telling(uri: str) -> Iterator[None]:
    try:
        yield
    except nbd.Error as error:
        if error.errnum in {errno.ENOSPC, errno.EDQUOT}:
            raise TargetFullError(
                f"There is no space left for {uri}.", advice="Free space where its server is."
            ) from error
        raise TargetNotWritableError(
            f"Writing {uri} failed: {error.string}.",
            advice="Look at its server; the same restore again goes on with it.",
        ) from error
