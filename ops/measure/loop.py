"""The simple loop: the thirty lines that anybody would write first, and that a data path must not be much slower than.

Extents, four threads with a connection each, SHA-256, zstd level 1, loose files. It syncs nothing, so a power cut may take
all of it; ours does not have that freedom, and is measured against it all the same.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbd

from freezeframe.repository.zstd import compress
from workers.export import ChunkNeed, Export, chunk_needs
from workers.peer import Peer

CHUNK = 1 << 20
THREADS = 4
LEVEL = 1


def run(socket: Path, target: str, peer: Peer, out: Path) -> tuple[float, int, int]:
    """Store an export; seconds, bytes read and bytes stored."""
    out.mkdir()
    began = time.monotonic()
    lock, counts = threading.Lock(), [0, 0]

    def work(slots: Iterator[int], size: int) -> None:
        zeros = bytes(CHUNK)
        connection = nbd.NBD()
        connection.set_export_name(target)
        connection.connect_unix(str(socket))
        while True:
            with lock:
                slot = next(slots, None)
            if slot is None:
                return
            data = connection.pread(min(CHUNK, size - slot * CHUNK), slot * CHUNK)
            with lock:
                counts[0] += len(data)
            if data == zeros:
                continue
            path = out / hashlib.sha256(data).hexdigest()
            if not path.exists():
                packed = compress(data, LEVEL)
                path.write_bytes(packed)
                with lock:
                    counts[1] += len(packed)

    with Export(socket, target, peer, with_bitmap=False) as export:
        needs = chunk_needs(export.extents(), export.size_bytes, CHUNK)
        slots = (slot for run, need in needs if need is ChunkNeed.READ for slot in run)
        threads = [threading.Thread(target=work, args=(slots, export.size_bytes)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return time.monotonic() - began, counts[0], counts[1]
