"""`ops/bench verify`: what `verify --all`, `repo check` and `gc` do with indexes, from 1 to 100 TiB, plain and encrypted.

    each index, once ─▶ digests ─▶ temporary file ─▶ the chunks of each of the 256 folders
    │◀──────────── marking ───────────▶│◀────────── folders ─────────▶│

No chunk is read or listed. Indexes are synthetic (`synthetic.py`) and read as any: opened, verified, unpacked, compared with
the one before. What it takes to make them is taken away; times are of the processor, since machines are shared. Each row is a
process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from freezeframe.repository import Tier
from freezeframe.repository.layout import FAN_OUT
from freezeframe.repository.verify.run import Run
from ops.measure.measured import peak_mib
from ops.measure.synthetic import Shape, SyntheticStore

SIZES_TIB = (1, 10, 100)
CAPTURES = 5


def run(directory: Path, sizes_tib: Sequence[int], captures: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A row for each size, plain and encrypted."""
    rows = []
    for tib in sizes_tib:
        for encrypted in (False, True):
            row = _in_a_process(directory, tib, captures, encrypted=encrypted)
            say(", ".join(f"{name} {value}" for name, value in row.items()))
            rows.append(row)
    return {"bench": "verify", "rows": rows, **_largest_over_smallest(rows), "cores": os.cpu_count()}


def _largest_over_smallest(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {
        f"{figure}_largest_over_smallest_{'encrypted' if encrypted else 'plain'}": round(
            of_a_kind[-1][figure] / of_a_kind[0][figure], 2
        )
        for encrypted in (False, True)
        for of_a_kind in [[row for row in rows if row["encrypted"] is encrypted]]
        for figure in ("us_per_slot", "us_per_chunk")
    }


def _in_a_process(directory: Path, tib: int, captures: int, *, encrypted: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "ops.measure.verification", str(tib), str(captures), str(int(encrypted))]
    place = {"FREEZEFRAME_TMP_DIR": str(directory), "TMPDIR": str(directory), "FREEZEFRAME_CONFIG": os.devnull}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env={**os.environ, **place}, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"tib": tib, "captures": captures, "encrypted": encrypted, **row}


def measure(shape: Shape, *, encrypted: bool) -> dict[str, Any]:
    """Find the chunks of all folders, as a verification of all captures does."""
    store = SyntheticStore(shape)
    repository = store.fill(encrypted=encrypted)
    idle_mib = peak_mib()
    began, cpu_began = time.monotonic(), time.process_time()
    with Run(repository, Tier.PRESENT, None, aside=False).chunks(repository.manifests()) as chunks:
        marked_cpu_s = time.process_time() - cpu_began - store.made_cpu_s
        found = sum(len(chunks.digests(folder)) for folder in range(len(FAN_OUT)))
        seconds = time.monotonic() - began - store.made_s
        cpu_s = time.process_time() - cpu_began - store.made_cpu_s
        file_bytes = chunks.file_bytes
    return {
        "slots": shape.slots,
        "chunks": found,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        "us_per_slot": round(cpu_s / shape.slots * 1e6, 3),
        "us_per_chunk": round(cpu_s / found * 1e6, 3),
        "marking_us_per_slot": round(marked_cpu_s / shape.slots * 1e6, 3),
        "folders_us_per_chunk": round((cpu_s - marked_cpu_s) / found * 1e6, 3),
        "index_reads": sum(store.opened.values()),
        "most_reads_of_one": max(store.opened.values()),
        "peak_mib": round(peak_mib(), 1),
        "idle_mib": round(idle_mib, 1),
        "temporary_mib": file_bytes >> 20,
    }


if __name__ == "__main__":
    print(json.dumps(measure(Shape(int(sys.argv[1]), int(sys.argv[2])), encrypted=bool(int(sys.argv[3])))))
