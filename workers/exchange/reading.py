"""Reading an image into the repository: extents, the chunks that hold data, several threads with a connection each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

from freezeframe.repository import DiskWriter, IndexReceipt, Repository
from workers.connection import DataConnection
from workers.exchange.image_server import CONNECTIONS, Image, Server, served
from workers.export import ChunkNeed, Export, bytes_of, chunk_needs

THREADS: Final = CONNECTIONS - 1


def read_image(
    repository: Repository, image: Image, size_bytes: int, target: str, on_read: Callable[[int], None]
) -> IndexReceipt:
    """Store the first `size_bytes` of an image; its index, settled. `on_read` is told bytes of the disk, never by two at once.

    Raises ImageToolError, ExportError, and what the repository's writer raises.
    """
    with served(image, target) as server, repository.disk_writer(size_bytes) as writer:
        with Export(server.socket, target, server.peer, with_bitmap=False) as export:
            _Reading(server, target, writer, size_bytes, repository.config.chunk_bytes, on_read).run(export)
        return writer.finish()


class _Reading:
    """The threads of one image. The first failure stops them all, and is the one that is raised."""

    def __init__(
        self,
        server: Server,
        target: str,
        writer: DiskWriter,
        size_bytes: int,
        chunk_bytes: int,
        on_read: Callable[[int], None],
    ) -> None:
        self._server = server
        self._target = target
        self._writer = writer
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self._on_read = on_read
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def run(self, export: Export) -> None:
        slots = self._slots(export)
        threads = [threading.Thread(target=self._read, args=(slots,), name="import") for _ in range(THREADS)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # an interrupt: the writer must not be left while threads write to it
            self._failure = self._failure or error
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            raise
        if self._failure is not None:
            raise self._failure

    def _slots(self, export: Export) -> Iterator[int]:
        """The chunks that hold data; others are holes from the beginning."""
        for slots, need in chunk_needs(export.extents(), export.size_bytes, self._chunk_bytes):
            if need is ChunkNeed.READ:
                yield from slots
            else:
                self._on_read(bytes_of(slots, self._size_bytes, self._chunk_bytes))

    def _read(self, slots: Iterator[int]) -> None:
        try:
            with DataConnection(self._server.socket, self._target, self._server.peer) as connection:
                while (slot := self._next(slots)) is not None:
                    length, buffer = self._length(slot), self._writer.take_buffer()
                    connection.complete(connection.begin(slot * self._chunk_bytes, buffer.chunk(length)))
                    self._writer.write_buffer(slot, buffer)
                    with self._lock:
                        self._on_read(length)
        except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to; `run` tells
            self._failure = self._failure or error

    def _next(self, slots: Iterator[int]) -> int | None:
        with self._lock:
            return None if self._failure is not None else next(slots, None)

    def _length(self, slot: int) -> int:
        """An image may be longer than its disk by less than a sector."""
        return min(self._chunk_bytes, self._size_bytes - slot * self._chunk_bytes)
