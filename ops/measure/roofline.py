"""The machine's own limit: the CPU seconds that reading, digesting, compressing and writing need by themselves.

Each part is done alone, in one thread, on a sample of the very chunks, and its CPU time is counted, QEMU's included; nothing
that waits counts. Compressing is at the level that a capture takes when it lacks processors: a harder one would make the limit
lower, and what is measured against it look better. Over all cores, a data path that lost nothing to waiting, locks or Python
would take that long.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from freezeframe.repository.chunk import seal
from workers import budget
from workers.export import ChunkNeed, Export, chunk_needs

ResultT = TypeVar("ResultT")

CHUNK = 1 << 20


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


def measure(socket: Path, target: str, qemu_pid: int, scratch: Path, every: int = 8) -> Roofline:
    """Measure on every `every`-th chunk that holds data."""
    scratch.mkdir()
    budget.keep_memory()  # as a data worker does
    with Export(socket, target, with_bitmap=False) as export:
        slots = [
            slot for slot, need in chunk_needs(export.extents(), export.size_bytes, CHUNK) if need is ChunkNeed.READ
        ]
        sample = slots[::every]
        size = len(sample) * CHUNK
        server = _cpu_s(qemu_pid)
        read_s, chunks = _read(export, sample)
        server_s = _cpu_s(qemu_pid) - server
    digest_s, digests = _timed(lambda: [hashlib.sha256(chunk).hexdigest() for chunk in chunks])
    # the very envelopes that a capture stores when processors are short: at the lowest level, or raw
    compress_s, packed = _timed(lambda: [seal(chunk) for chunk in chunks])
    write_s, _ = _timed(
        lambda: [(scratch / name).write_bytes(data) for name, data in zip(digests, packed, strict=True)]
    )
    return Roofline((read_s + server_s) / size, digest_s / size, compress_s / size, write_s / size)


def _read(export: Export, sample: list[int]) -> tuple[float, list[bytes]]:
    """Into one buffer, again and again; the copies for the other parts are not timed."""
    buffer, chunks, read_s = bytearray(CHUNK), [], 0.0
    for slot in sample:
        began = time.thread_time()
        export.complete(export.begin(slot * CHUNK, buffer))
        read_s += time.thread_time() - began
        chunks.append(bytes(buffer))
    return read_s, chunks


def _timed(work: Callable[[], ResultT]) -> tuple[float, ResultT]:
    began = time.thread_time()
    result = work()
    return time.thread_time() - began, result


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far. [proc(5): fields 14 and 15 of stat]"""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
