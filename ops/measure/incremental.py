"""`ops/bench incremental`: a full capture and incrementals, each after 1 % of a disk's blocks were rewritten, by chunk size.

    written   │     ▓                    ▓            │   scattered blocks of 64 KiB, by the guest itself
    read      │ ░░░░▓░░░           ░░░░░░▓░           │   whole chunks with a dirty byte: read amplification
    stored    │ ░░░░▓░░░           ░░░░░░▓░           │   the same, compressed: store amplification

Both are bytes for each byte that was written. The blocks are others in each round, and the same for every chunk size; they
are of random bytes, and lie where the disk has data. Seconds are of the whole command, from the request to the receipt, and
the median round counts; the disk and the command's program are in the page cache before each. What the audit takes of them is
read from the worker's log: nothing else is done meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freezeframe.contract.words import CaptureKind
from freezeframe.repository import Repository
from freezeframe.repository.config import DEFAULT_CHUNK_BYTES
from ops.lab import Lab
from ops.lab.guest import Guest
from ops.measure import material
from ops.measure.failed import CaptureFailedError
from ops.measure.source import warm
from ops.measure.throughput import GUEST, TARGET, captured, lab_spec
from ops.system import Part, System, system_on

KIB = 1 << 10
CHUNKS_KIB = (256, 512, 1024, 4096)
#: Four times the usual disk: a full is to take so long that an incremental's fixed cost, 0.6 s, is not what
#: is measured.
THIRD_MIB = 4 * material.THIRD_MIB
DISK_MIB = 4 * material.DISK_MIB
BLOCK_BYTES = 64 * KIB
DIRTY_SHARE = 0.01
#: Seconds for the guest to write; a process a block, emulated.
WRITE_S = 300.0


@dataclass(frozen=True)
class _Round:
    """One incremental."""

    seconds: float
    bytes_read: int
    bytes_stored: int
    audit_s: float


def run(directory: Path, rounds: int, chunks_kib: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    image = directory / "disk.qcow2"
    material.make(image, THIRD_MIB, DISK_MIB)
    say(f"made a disk of {DISK_MIB} MiB, {image.stat().st_blocks * 512 / 1e9:.2f} GB allocated")
    blocks = [_blocks(number) for number in range(rounds)]
    with Lab.up(lab_spec(image), directory / "lab") as lab:
        rows = [_row(lab, image, kib, blocks, say) for kib in chunks_kib]
    usual = next((row for row in rows if row["chunk_kib"] * KIB == DEFAULT_CHUNK_BYTES), rows[0])
    return {
        "bench": "incremental",
        **{name: usual[name] for name in ("full_s", "incremental_s", "incremental_over_full", "audit_share")},
        "rows": rows,
        "written_bytes": len(blocks[0]) * BLOCK_BYTES,
        "cores": os.cpu_count(),
    }


def _blocks(number: int) -> list[int]:
    """One in a hundred of the blocks that hold data."""
    blocks = 3 * THIRD_MIB * material.MIB // BLOCK_BYTES
    return sorted(random.Random(number).sample(range(blocks), round(blocks * DIRTY_SHARE)))


def _row(lab: Lab, image: Path, chunk_kib: int, blocks: list[list[int]], say: Callable[[str], None]) -> dict[str, Any]:
    directory = image.parent
    repository = directory / f"repository-{chunk_kib}"
    Repository.init(repository, chunk_bytes=chunk_kib * KIB)
    settings = {"FREEZEFRAME_REPOSITORY": str(repository), "FREEZEFRAME_LOG_JSON": "1"}
    with system_on(lab, directory / f"system-{chunk_kib}", **settings) as system:
        warm(image)
        full_s = captured(system, "--full")
        chunks = _last_disk(system, CaptureKind.FULL).chunks_new
        say(f"chunks of {chunk_kib} KiB: the full took {full_s:.1f} s")
        rounds = [_incremental(system, image, some, say) for some in blocks]
        for checkpoint in lab.guest(GUEST).domain.listAllCheckpoints():
            checkpoint.delete()  # the next repository knows nothing of them
    incremental_s = statistics.median(one.seconds for one in rounds)
    written = sum(map(len, blocks)) * BLOCK_BYTES
    return {
        "chunk_kib": chunk_kib,
        "read_amplification": round(sum(one.bytes_read for one in rounds) / written, 2),
        "store_amplification": round(sum(one.bytes_stored for one in rounds) / written, 2),
        "full_s": round(full_s, 2),
        "incremental_s": round(incremental_s, 2),
        "incremental_rounds_s": [round(one.seconds, 2) for one in rounds],
        "incremental_over_full": round(incremental_s / full_s, 3),
        "audit_share": round(statistics.median(one.audit_s / one.seconds for one in rounds), 4),
        "audit_rounds_ms": [round(1000 * one.audit_s, 1) for one in rounds],
        "chunks_full": chunks,
        "chunks_at_100_tib": (100 << 40) // (chunk_kib * KIB),
    }


def _incremental(system: System, image: Path, blocks: list[int], say: Callable[[str], None]) -> _Round:
    _rewrite(system.lab.guest(GUEST), blocks)
    warm(image)
    audits = len(_audits(system))
    seconds = captured(system)
    disk = _last_disk(system, CaptureKind.INCREMENTAL)
    audit_s = sum(_audits(system)[audits:])
    say(f"an incremental took {seconds:.1f} s (audit {1000 * audit_s:.1f} ms) and read {disk.bytes_read / 1e6:.0f} MB")
    return _Round(seconds, disk.bytes_read, disk.bytes_stored, audit_s)


def _audits(system: System) -> list[float]:
    """Seconds of each audit so far, by the logs of all parts."""
    events = [event for part in system.parts.values() for event in _events(part)]
    return [event["seconds"] for event in events if event.get("event") == "audited"]


def _events(part: Part) -> list[dict[str, Any]]:
    """The lines of a part's log that are JSON; a library prints others."""
    lines = part.log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _rewrite(guest: Guest, blocks: list[int]) -> None:
    """By the guest, so that QEMU's bitmap sees it as any other write."""
    numbers = " ".join(map(str, blocks))
    guest.shell(
        f"for n in {numbers}; do dd if=/dev/urandom of=/dev/{TARGET} bs={BLOCK_BYTES} count=1 seek=$n conv=notrunc 2>/dev/null"
        " || exit 1; done; sync",
        timeout_s=WRITE_S,
    )


def _last_disk(system: System, kind: CaptureKind) -> Any:
    """The disk in the newest capture, which must be of that kind."""
    disk = system.repository.manifest("latest").guests[0].disks[0]
    if disk.kind is not kind:
        raise CaptureFailedError(f"The capture is {disk.kind}, not {kind}: {disk.full_reason or 'no reason is told'}.")
    return disk
