"""`ops/bench gc`: forget and garbage collection in a synthetic repository of very many chunks.

    capture 1   │ base ·····································│         half of all chunks and a bit
    capture 2   │ base ··│ 5 % anew │······················│         and so on, ten captures of one disk
                └─ captures 1 to 5 are forgotten: a quarter of all chunks is garbage

Chunks are files of a few bytes: collection looks at names, sizes and times, never at what is in them. Indexes are real. Forget
and collection each run in a process of their own, whose peak of memory is told beside that of one that has only opened
the repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from freezeframe.repository import Repository
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import locate
from ops.measure.manifests import made_up

SIZES = (10_000, 100_000, 1_000_000)
CAPTURES, FORGOTTEN = 10, 5
SHARE_ANEW = 0.05
CHUNK_BYTES = 1 << 20


def run(directory: Path, sizes: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """A row for each number of chunks."""
    rows = [_row(directory / str(size), size, say) for size in sizes]
    per_chunk = [row["gc_us_per_chunk"] for row in rows]
    return {
        "bench": "gc",
        "rows": rows,
        "gc_us_per_chunk_largest_over_smallest": round(per_chunk[-1] / per_chunk[0], 2),
        "cores": os.cpu_count(),
    }


def _row(path: Path, size: int, say: Callable[[str], None]) -> dict[str, Any]:
    chunks, captures = make(Repository.init(path), size)
    say(f"made {captures} captures of {chunks} chunks")
    opened, forgotten, collected = (_measured(what, path) for what in ("open", "forget", "collect"))
    row = {
        "chunks": chunks,
        "captures": captures,
        "forget_s": forgotten["seconds"],
        "forget_peak_mib": forgotten["peak_mib"],
        "gc_s": collected["seconds"],
        "gc_cpu_s": collected["cpu_s"],
        "gc_us_per_chunk": round(collected["seconds"] / chunks * 1e6, 2),
        "gc_peak_mib": collected["peak_mib"],
        "idle_peak_mib": opened["peak_mib"],
        "deleted": collected["deleted"],
    }
    left = sum(len(files) for _, _, files in os.walk(path / "chunks"))
    if left != chunks - (collected["deleted"] - FORGOTTEN):  # an index for each that was forgotten
        raise RuntimeError(f"{left} chunks are left of {chunks}, {collected['deleted']} objects were deleted")
    say(", ".join(f"{name} {value}" for name, value in row.items()))
    return row


def make(repository: Repository, size: int) -> tuple[int, int]:
    """A repository with about `size` chunks; how many chunks and captures there are."""
    anew = int(size * SHARE_ANEW)
    slots = size - (CAPTURES - 1) * anew
    digests = [_chunk(repository, number) for number in range(slots)]
    parent: str | None = None
    made = slots
    for number in range(CAPTURES):
        changes = dict(enumerate(digests))
        if number:
            first = (number - 1) * anew  # another stretch of the disk each time
            changes = {slot % slots: _chunk(repository, made + slot - first) for slot in range(first, first + anew)}
            made += anew
        parent = _capture(repository, number, slots, changes, parent)
    return made, CAPTURES


def _chunk(repository: Repository, number: int) -> bytes:
    digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
    path = Path(repository.address) / locate(digest)
    path.write_bytes(b"a chunk")
    return digest


def _capture(repository: Repository, number: int, slots: int, changes: dict[int, bytes], parent: str | None) -> str:
    before = repository.index(parent) if parent else None
    try:
        with IndexBuilder(slots * CHUNK_BYTES, CHUNK_BYTES, parent=before) as builder:
            for slot, digest in changes.items():
                builder.set(slot, digest)
            index = builder.store(repository.objects)[0].hex()
    finally:
        if before is not None:
            before.close()
    repository.write_manifest(made_up(number, [index], slots * CHUNK_BYTES, CHUNK_BYTES))
    return index


def _measured(what: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "ops.measure.garbage", what, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _measure(what: str, path: str) -> dict[str, Any]:
    """In a process of its own."""
    repository = Repository.open(path)
    deleted = 0
    began, cpu_began = time.monotonic(), time.process_time()
    if what == "forget":
        for manifest in repository.manifests()[-FORGOTTEN:]:
            repository.forget(manifest.capture_id)
    elif what == "collect":
        deleted = collect(repository, grace=timedelta(0)).deleted.objects
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
    return {"seconds": round(seconds, 3), "cpu_s": round(cpu_s, 3), "peak_mib": _peak_mib(), "deleted": deleted}


def _peak_mib() -> float:
    """Of this program alone: getrusage's figure is at least that of the process which started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(status["VmHWM"].split()[0]) / 1024, 1)


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
