"""The machine's own limit: the CPU seconds that reading, digesting, compressing and writing need by themselves.

Each part is done by itself, on the very chunks, one chunk at a time, by a thread a core at once because cores share caches and
memory, and its CPU time is counted, QEMU's included; nothing that waits counts, and no memory that is new to the process. A
chunk that was met before needs no compressing and no writing. Compressing is at the level that a capture takes when it lacks
processors, and writing is what makes chunks durable under their names, in batches and past the page cache as a capture does
it: a harder level, or the cache, would make the limit lower, and what is measured against it look better. Over all cores, a
data path that lost nothing to waiting, locks or Python would take that long.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from freezeframe.repository import Repository
from freezeframe.repository.buffer import ChunkBuffers
from freezeframe.repository.chunk import digest_of_chunk
from freezeframe.repository.commit import BATCH_BYTES
from freezeframe.repository.config import DEFAULT_CHUNK_BYTES as CHUNK
from freezeframe.repository.layout import folder_of, locate
from freezeframe.repository.sealing import seal
from freezeframe.repository.store.backend import Store
from workers import budget
from workers.connection import DataConnection
from workers.export import ChunkNeed, Export, chunk_needs
from workers.peer import Peer


@dataclass(frozen=True)
class Roofline:
    """CPU seconds per byte of guest data, part by part."""

    read: float
    digest: float
    compress: float
    write: float

    @property
    def mb_per_s(self) -> float:
        cores = os.cpu_count() or 1
        return cores / (self.read + self.digest + self.compress + self.write) / 1e6


def measure(socket: Path, target: str, peer: Peer, scratch: Path) -> Roofline:
    """Measure on every chunk that holds data."""
    budget.keep_memory()  # as a data worker does
    store = Repository.init(scratch).store
    with Export(socket, target, peer, with_bitmap=False) as export:
        needs = chunk_needs(export.extents(), export.size_bytes, CHUNK)
        slots = [slot for run, need in needs if need is ChunkNeed.READ for slot in run]
    cores = os.cpu_count() or 1
    shares, met = [slots[first::cores] for first in range(cores)], set[str]()
    with ThreadPoolExecutor(cores) as pool:
        server_s = _cpu_s(peer.pid)
        read_s = sum(pool.map(lambda share: _read_s(socket, target, peer, share), shares)) + _cpu_s(peer.pid) - server_s
        others_s = list(pool.map(lambda share: _others_s(socket, target, peer, share, store, met), shares))
    data_bytes = len(slots) * CHUNK
    return Roofline(read_s / data_bytes, *(sum(part) / data_bytes for part in zip(*others_s, strict=True)))


def _read_s(socket: Path, target: str, peer: Peer, share: list[int]) -> float:
    """The client's part of reading, into one buffer again and again."""
    buffer, read = memoryview(bytearray(CHUNK)), Stopwatch()
    with DataConnection(socket, target, peer) as connection:
        for slot in share:
            with read:
                connection.complete(connection.begin(slot * CHUNK, buffer))
    return read.seconds


def _others_s(
    socket: Path, target: str, peer: Peer, share: list[int], store: Store, met: set[str]
) -> tuple[float, float, float]:
    """Digesting, compressing and writing; the reading for them is not timed. `met`: the names of all chunks so far."""
    digest, compress, write = Stopwatch(), Stopwatch(), Stopwatch()
    batch: list[tuple[str, memoryview]] = []
    buffers, held, folders = ChunkBuffers(CHUNK), [], set[str]()
    with DataConnection(socket, target, peer) as connection:
        for slot in share:
            held.append(buffers.take())
            chunk = held[-1].chunk(CHUNK)
            connection.complete(connection.begin(slot * CHUNK, chunk))
            with digest:
                name = locate(digest_of_chunk(chunk))
            if name in met:
                buffers.give_back(held.pop())
                continue
            met.add(name)
            with compress:
                envelope = seal(held[-1], CHUNK)
            batch.append((name, envelope))
            folders.add(folder_of(name))
            if sum(map(len, held)) >= BATCH_BYTES:
                with write:
                    store.put_many(batch)
                batch.clear()
                while held:
                    buffers.give_back(held.pop())
        with write:
            store.put_many(batch)
            store.settle(folders)
    return digest.seconds, compress.seconds, write.seconds


class Stopwatch:
    """This thread's CPU seconds in all its blocks."""

    def __init__(self) -> None:
        self.seconds = self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._began


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far. [proc(5): fields 14 and 15 of stat]"""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
