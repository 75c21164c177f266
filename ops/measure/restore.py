"""`ops/bench restore`: a capture out of a local repository, beside `qemu-img convert` from a local qcow2 of the same content.

MB are 10^6 bytes of guest data, the same number for both: what the disk has allocated, in chunks. Seconds are of the whole
command, Python's start included, and of an fsync of the file after it, which finds nothing left to do where the command is
durable itself: ours always, qemu-img with `-t writeback` (its default for a target is `unsafe`, which syncs nothing). Sources
are in the page cache for both, what earlier rounds left dirty is written out before each.

Ours verifies and decompresses, qemu-img only copies: where others want the processors too, ours waits for them and qemu-img
hardly. So CPU seconds stand beside: over the cores they are what the machine alone would allow.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository import DiskCapture, GuestCapture, IndexReceipt, Instant, Manifest, Repository
from ops.measure import material
from ops.measure.source import warm

GUEST, TARGET = "bench", "vda"
UUID = "7d0f6f1e-52a1-4d38-9a0c-0d5a6c2b9c11"
FORMATS = ("qcow2", "raw")
OURS, PEER = "freezeframe", "qemu-img"


def run(directory: Path, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Both contestants to both formats, `rounds` times, interleaved, in changing order."""
    image, repository, out = directory / "disk.qcow2", directory / "repository", directory / "out"
    material.make(image)
    data_bytes = _capture(image, repository)
    say(f"captured a disk of {material.DISK_MIB} MiB, {data_bytes / 1e9:.2f} GB of data")
    taken: dict[tuple[str, str], list[Taken]] = {}
    for number in range(rounds):
        for image_format in FORMATS:
            for name in (OURS, PEER) if number % 2 == 0 else (PEER, OURS):
                command = _ours(repository, out, image_format) if name == OURS else _peer(image, out, image_format)
                took = _timed(command, image if name == PEER else repository, out)
                taken.setdefault((name, image_format), []).append(took)
                speed = f"{data_bytes / took.seconds / 1e6:.0f} MB/s, {took.cpu_s:.2f} s of CPU"
                say(f"round {number + 1}: {name} to {image_format} took {took.seconds:.2f} s, {speed}")
    return _report(taken, data_bytes)


class Taken(NamedTuple):
    """What one command took: by the clock, and of all processors."""

    seconds: float
    cpu_s: float


def _ours(repository: Path, out: Path, image_format: str) -> list[str]:
    program = str(Path(sys.executable).with_name("freezeframe"))
    return [program, "restore", "latest", "--repository", str(repository), "--to", str(out), "--format", image_format]


def _peer(image: Path, out: Path, image_format: str) -> list[str]:
    target = out / f"{GUEST}-{TARGET}.{image_format}"
    return ["qemu-img", "convert", "-f", "qcow2", "-O", image_format, "-t", "writeback", str(image), str(target)]


def _timed(command: list[str], source: Path, out: Path) -> Taken:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    warm(source)
    began, cpu_s = time.monotonic(), _children_cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    for path in out.glob(f"{GUEST}-{TARGET}.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return Taken(time.monotonic() - began, _children_cpu_s() - cpu_s)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _capture(image: Path, root: Path) -> int:
    """A repository with one capture of the image; the bytes of data in it, in chunks."""
    raw = image.with_suffix(".plain")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(raw)], check=True)
    repository = Repository.init(root)
    chunk_bytes, size_bytes = repository.config.chunk_bytes, raw.stat().st_size
    with repository.session("ops/bench") as capture_id:
        with repository.disk_writer(size_bytes) as writer, raw.open("rb") as file:
            for slot, data in enumerate(iter(lambda: file.read(chunk_bytes), b"")):
                writer.write_chunk(slot, data)
            receipt = writer.finish()
        repository.seal(manifest_of(capture_id, [(UUID, GUEST, _disk(image, receipt))]))
    raw.unlink()
    with repository.index(receipt.digest) as index:
        return sum(index.header.slot_bytes(slot) for slot, _ in index.used_slots())


def _disk(image: Path, receipt: IndexReceipt) -> DiskCapture:
    return DiskCapture(
        target=TARGET,
        source=str(image),
        source_format="qcow2",
        size_bytes=receipt.size_bytes,
        chunk_bytes=receipt.chunk_bytes,
        kind=CaptureKind.FULL,
        index=receipt.digest,
        bytes_read=receipt.bytes_read,
        bytes_stored=receipt.bytes_stored,
        chunks_new=receipt.chunks_new,
        chunks_known=receipt.chunks_known,
    )


def manifest_of(capture_id: str, disks: Sequence[tuple[str, str, DiskCapture]]) -> Manifest:
    """Return the manifest of a capture of guests with one disk each: their UUIDs, names and disks."""
    now = datetime.now(UTC)
    guests = tuple(
        GuestCapture(
            guest_uuid=guest_uuid,
            name=name,
            host_id="host-a.example",
            domain_xml="<domain/>",
            consistency=Consistency.CRASH,
            hold_ms=None,
            disks=(disk,),
        )
        for guest_uuid, name, disk in disks
    )
    return Manifest(
        capture_id=capture_id,
        created_at=now,
        instant=Instant(at=now),
        hold=HoldKind.NONE,
        policy=Policy.ALL,
        consistency=Consistency.CRASH,
        kind=CaptureKind.FULL,
        guests=guests,
        proof=None,
    )


def _report(taken: dict[tuple[str, str], list[Taken]], data_bytes: int) -> dict[str, Any]:
    def figures(name: str, image_format: str) -> dict[str, Any]:
        rounds = taken[name, image_format]
        best, median = min(one.seconds for one in rounds), statistics.median(one.seconds for one in rounds)
        return {
            "mb_per_s": round(data_bytes / best / 1e6, 1),
            "median_mb_per_s": round(data_bytes / median / 1e6, 1),
            "seconds": round(best, 2),
            "cpu_s": round(min(one.cpu_s for one in rounds), 2),
        }

    def against(image_format: str) -> dict[str, Any]:
        ours, peer = figures(OURS, image_format), figures(PEER, image_format)
        ratios = {
            "of_peer_best": round(ours["mb_per_s"] / peer["mb_per_s"], 2),
            "of_peer_median": round(ours["median_mb_per_s"] / peer["median_mb_per_s"], 2),
        }
        return {**ours, **ratios, "peers": {PEER: peer}}

    return {
        "bench": "restore",
        "format": FORMATS[0],
        **against(FORMATS[0]),
        "raw": against("raw"),
        "data_bytes": data_bytes,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[2], 1),  # of 15 minutes: what else ran
    }
