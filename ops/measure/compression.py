"""`ops/bench compression`: what each level of zstd costs and saves, by kind of data and chunk size.

One thread, its CPU time, the best of three passes, on samples of what the bench's disk holds. `stored` is what is left of each
kind; `disk` is what would be left of a disk that is a third of each; `floor` is what its random bytes alone take, which no
compression goes below.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from freezeframe.repository.zstd import compress
from ops.measure import material

CHUNKS_KIB = (256, 512, 1024, 4096)
LEVELS = (-1, 1, 2, 3, 6, 9, 12, 19)
PASSES = 3
#: A slow level is tried on less, so that the whole takes a minute.
SLOW_FROM = 12
SLOW_MIB = 4
#: Random bytes on the bench's disk: all of a third, and half of another.
FLOOR = 0.5


def run(sample_mib: int, say: Callable[[str], None]) -> dict[str, Any]:
    samples = {kind: b"".join(make() for _ in range(sample_mib)) for kind, make in material.kinds().items()}
    rows = []
    for chunk_kib in CHUNKS_KIB:
        for level in LEVELS:
            row = _row(samples, chunk_kib << 10, level)
            say(f"{chunk_kib} KiB, level {level}: {row['mb_per_s']} MB/s, stored {row['stored']}")
            rows.append(row)
    return {"bench": "compression", "rows": rows, "floor": FLOOR, "sample_mib": sample_mib, "cores": os.cpu_count()}


def _row(samples: dict[str, bytes], chunk_bytes: int, level: int) -> dict[str, Any]:
    tried = {
        kind: _tried(data if level < SLOW_FROM else data[: SLOW_MIB << 20], chunk_bytes, level)
        for kind, data in samples.items()
    }
    return {
        "chunk_kib": chunk_bytes >> 10,
        "level": level,
        "mb_per_s": {kind: round(speed / 1e6) for kind, (speed, _) in tried.items()},
        "stored": {kind: round(left, 3) for kind, (_, left) in tried.items()},
        "disk_mb_per_s": round(len(tried) / sum(1 / speed for speed, _ in tried.values()) / 1e6),
        "disk": round(sum(left for _, left in tried.values()) / len(tried), 3),
    }


def _tried(data: bytes, chunk_bytes: int, level: int) -> tuple[float, float]:
    """Bytes a second of CPU, and the share that is left; raw where that is less."""
    seconds, left = [], 0
    for _ in range(PASSES if level < SLOW_FROM else 1):
        began, left = time.thread_time(), 0
        for at in range(0, len(data), chunk_bytes):
            chunk = data[at : at + chunk_bytes]
            left += min(len(chunk), len(compress(chunk, level)))
        seconds.append(time.thread_time() - began)
    return len(data) / min(seconds), left / len(data)
