"""Small objects that would become large: refused, in bounded memory. In a process of its own, since a peak does not go down."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.repository import zstd
from freezeframe.repository.chunk import unpack
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged
from freezeframe.repository.header import IndexHeader
from freezeframe.repository.index import load_index
from freezeframe.repository.layout import CHUNK_BYTES_MAX, index_name
from freezeframe.repository.objects import Objects
from freezeframe.repository.store import MemoryStore

from .samples import envelope_of

MIB = 1 << 20

#: What a reader may take for any of them: twice the longest chunk, and a window.
BOUND_MIB = 64


def chunk(frame: bytes, claimed_bytes: int) -> bytes:
    return (
        envelope_of(bytes(CHUNK_BYTES_MAX))[:8]
        + claimed_bytes.to_bytes(4, "little")
        + len(frame).to_bytes(4, "little")
        + frame
    )


def frame(length: int, *, stated: bool, window_log: int = 20) -> bytes:
    """Zeros, a MiB at a time."""
    packing = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    if stated:
        packing.set_pledged_input_size(length)
    parts = [packing.compress(bytes(min(MIB, length - at))) for at in range(0, length, MIB)]
    return b"".join(parts) + packing.flush()


def index(table: bytes, size_bytes: int) -> bytes:
    return IndexHeader(size_bytes, 4096, content=hashlib.sha256(b"").digest()).pack() + table


CHUNKS: dict[str, Callable[[], bytes]] = {
    "longer than it claims": lambda: chunk(frame(1 << 28, stated=True), 4096),
    "longer than any chunk": lambda: chunk(frame(1 << 28, stated=True), 1 << 28),
    "of no stated length": lambda: chunk(frame(1 << 28, stated=False), CHUNK_BYTES_MAX),
    "longer than it states": lambda: chunk(
        frame(CHUNK_BYTES_MAX, stated=True) + frame(1 << 28, stated=True), CHUNK_BYTES_MAX
    ),
}
INDEXES: dict[str, Callable[[], bytes]] = {
    "longer than its disk": lambda: index(frame(1 << 28, stated=False), 1 << 20),
    "of a window of 128 MiB": lambda: index(frame(1 << 28, stated=False, window_log=27), 4096 << 23),
}


def refused(kind: str, data: bytes) -> None:
    if kind == "chunk":
        with pytest.raises(ChunkDamaged):
            unpack(data, "x")
        return
    digest, store = hashlib.sha256(data).digest(), MemoryStore()
    store.put(index_name(digest), io.BytesIO(data))
    with pytest.raises(IndexDamaged, match="decode"):
        load_index(Objects(store), digest)


def peak_mib() -> int:
    """Of this process since it was executed."""
    return int(Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) >> 10


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        *(pytest.param("chunk", make, id=f"chunk {name}") for name, make in CHUNKS.items()),
        *(pytest.param("index", make, id=f"index {name}") for name, make in INDEXES.items()),
    ],
)
def test_a_bomb_is_refused_in_bounded_memory(kind: str, make: Callable[[], bytes]) -> None:
    command = [sys.executable, "-m", "tests.unit.repository.test_bombs", kind]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], input=make(), check=True, capture_output=True)
    assert json.loads(done.stdout) < BOUND_MIB


if __name__ == "__main__":
    bomb = sys.stdin.buffer.read()
    before = peak_mib()
    refused(sys.argv[1], bomb)
    print(peak_mib() - before)
