"""`ops/bench s3`: captures in object storage, with a delay of each request and without, one disk and several.

    QEMU ─ NBD ─▶ transfer (a process each, two at once as on a host) ─▶ delay proxy ─▶ SeaweedFS, on this machine
                  restore of the capture, two disks at once            ◀─┘  counts requests

All of it is the real code with its default settings, the chunk size too. Data is random, so nothing of it compresses and all of
it is sent. The same proxy is in the way at a delay of 0, so what it costs itself is in both. MB are 10^6 bytes of guest data. A
full's seconds are from the first transfer's beginning to the last one's end, without the start of Python; so are those of an
incremental, after 1 % of each disk was rewritten in blocks of 64 KiB.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import DiskCapture, Manifest, Repository
from freezeframe.settings import HostSettings
from ops.measure.barrier import redis_server
from ops.measure.delay_proxy import FarAway, far_away
from ops.measure.memory import environment
from ops.measure.restore import manifest_of
from ops.object_storage import BUCKET, ObjectStorage
from ops.qemu_export import FakeGuest, exporting
from workers.host import this_host
from workers.hypervisor.backup import bitmap_name
from workers.journal import Journal
from workers.restore.capture import restore_capture
from workers.restore.image import ImageFormat
from workers.steps.transfer import transfer

MIB: Final = 1 << 20
DELAYS_MS: Final = (0, 30)
DISKS: Final = (1, 4)
DISK_MIB: Final = 1024
BLOCK_BYTES: Final = 64 << 10
DIRTY_SHARE: Final = 0.01
TARGET: Final = "vda"
FULL, INCREMENTAL = "01KAAAAAAAAAAAAAAAAAAAAAAA", "01KBBBBBBBBBBBBBBBBBBBBBBB"
CHECKPOINTS: Final = {FULL: "bench.1", INCREMENTAL: "bench.2"}

#: Transfers side by side: what a host does unasked.
SIDE_BY_SIDE: Final = HostSettings.model_fields["transfers"].default


def run(
    directory: Path,
    delays_ms: Sequence[int],
    disks: Sequence[int],
    disk_mib: int,
    say: Callable[[str], None],
    chunk_kib: int | None = None,
    rounds: int = 1,
) -> dict[str, Any]:
    """Measure a row for each number of disks and each delay, in interleaved rounds of which the best of each counts.

    `chunk_kib`: None for what a repository has unasked.
    """
    measured: list[dict[str, Any]] = []
    storage = ObjectStorage(directory / "storage")
    with storage, redis_server() as redis_url:
        host, _, port = storage.endpoint.removeprefix("http://").partition(":")
        with far_away(host, int(port)) as far:
            site = _Site(directory, storage, far, redis_url, chunk_kib)
            for count in disks:
                for number in range(rounds):
                    for delay_ms in delays_ms if number % 2 == 0 else reversed(delays_ms):
                        measured.append(site.row(f"{count}-{delay_ms}-{number}", count, delay_ms, disk_mib))
                        say(json.dumps(measured[-1]))
    rows = best_of(measured)
    return {
        "bench": "s3",
        "rows": rows,
        "of_no_delay": of_no_delay(rows),
        "chunk_bytes": rows[0]["chunk_bytes"],
        "disk_mib": disk_mib,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def best_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each number of disks and each delay, with the best of each figure. Pure."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["disks"], row["delay_ms"]), []).append(row)
    return [
        {name: (max if name.endswith("_mb_per_s") else min)(one[name] for one in rounds) for name in rounds[0]}
        for rounds in found.values()
    ]


def of_no_delay(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return throughputs with a delay as shares of those without, for each number of disks. Pure."""
    near = {row["disks"]: row for row in rows if row["delay_ms"] == 0}
    return [
        {
            "delay_ms": row["delay_ms"],
            "disks": row["disks"],
            **{
                name.removesuffix("_mb_per_s"): round(row[name] / near[row["disks"]][name], 2)
                for name in ("full_mb_per_s", "restore_mb_per_s")
            },
        }
        for row in rows
        if row["delay_ms"] and row["disks"] in near
    ]


def dirty_blocks(disk_bytes: int, seed: int) -> list[int]:
    """Return offsets of the blocks that are rewritten: 1 % of the disk, the same for the same seed. Pure."""
    blocks = disk_bytes // BLOCK_BYTES
    chosen = random.Random(seed).sample(range(blocks), max(1, round(blocks * DIRTY_SHARE)))
    return [block * BLOCK_BYTES for block in sorted(chosen)]


def shared_out(items: Sequence[int], workers: int) -> list[list[int]]:
    """Return what each of some workers does, as even as can be; none does nothing. Pure."""
    return [list(items[number::workers]) for number in range(min(workers, len(items)))]


@dataclass(frozen=True)
class _Disk:
    """A disk of random data, as a guest's QEMU exports it."""

    number: int
    path: Path
    size_bytes: int

    @property
    def uuid(self) -> str:
        return f"00000000-0000-4000-8000-{self.number:012x}"

    @property
    def name(self) -> str:
        return f"g{self.number}"

    def make(self) -> None:
        raw = self.path.with_suffix(".raw")
        with raw.open("wb") as file:
            for _ in range(self.size_bytes // MIB):
                file.write(os.urandom(MIB))
        _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(self.path))
        raw.unlink()
        _run("qemu-img", "bitmap", "-f", "qcow2", "--add", str(self.path), bitmap_name(TARGET))

    def rewrite(self) -> None:
        writes = [
            word
            for number, offset in enumerate(dirty_blocks(self.size_bytes, self.number))
            for word in ("-c", f"write -P {1 + number % 255} {offset} {BLOCK_BYTES}")
        ]
        _run("qemu-io", "-f", "qcow2", *writes, str(self.path))

    @contextmanager
    def served(self, directory: Path, capture_id: str) -> Iterator[None]:
        guest = FakeGuest(self.name, self.uuid, directory)
        socket = guest.begun(Journal(directory / "state"), capture_id)
        with exporting(guest, socket, self.path, "qcow2", bitmap_name(TARGET)):
            yield

    def order(self, capture_id: str, chunk_bytes: int, parent: str | None) -> TransferOrder:
        return TransferOrder(
            capture_id=capture_id,
            epoch=1,
            host_id="host-a",
            not_after=datetime.now(UTC) + timedelta(hours=1),
            guest_uuid=self.uuid,
            guest_name=self.name,
            target=TARGET,
            size_bytes=self.size_bytes,
            chunk_bytes=chunk_bytes,
            kind=CaptureKind.FULL if parent is None else CaptureKind.INCREMENTAL,
            checkpoint=CHECKPOINTS[capture_id],
            parent_index=parent,
            parent_checkpoint=None if parent is None else CHECKPOINTS[FULL],
        )


class _Site:
    """One machine: storage, the proxy before it, and a host whose directories are below `directory`."""

    def __init__(
        self, directory: Path, storage: ObjectStorage, far: FarAway, redis_url: str, chunk_kib: int | None
    ) -> None:
        self._chunk_kib = chunk_kib
        self._directory = directory
        self._storage = storage
        self._far = far
        self._redis_url = redis_url

    def row(self, name: str, count: int, delay_ms: int, disk_mib: int) -> dict[str, Any]:
        directory = self._directory / name
        directory.mkdir()
        env = self._environment(directory)
        self._far.delay(delay_ms)
        disks = [_Disk(number, directory / f"disk{number}.qcow2", disk_mib * MIB) for number in range(count)]
        for disk in disks:
            disk.make()
        with _environ(env), ExitStack() as stack:
            workers = [stack.enter_context(_Worker.started(env)) for _ in range(min(SIDE_BY_SIDE, count))]
            repository = self._repository(env["FREEZEFRAME_REPOSITORY"])
            chunk_bytes = repository.config.chunk_bytes
            before = self._far.requests()
            full_s, full = _transferred(directory, workers, repository, disks, FULL, [None] * count)
            requests = self._far.requests() - before
            repository.seal(_manifest(disks, full, chunk_bytes))
            for disk in disks:
                disk.rewrite()
            parents = [one["index"] for one in full]
            incremental_s, _ = _transferred(directory, workers, repository, disks, INCREMENTAL, parents)
            restored = workers[0].do({"restore": FULL, "to": str(directory / "out")})
        total = count * disk_mib * MIB
        for path in [*directory.glob("disk*"), *directory.glob("out/*")]:
            path.unlink()
        return {
            "delay_ms": delay_ms,
            "disks": count,
            "full_mb_per_s": round(total / full_s / 1e6, 1),
            "incremental_s": round(incremental_s, 2),
            "restore_mb_per_s": round(total / (restored["ended"] - restored["began"]) / 1e6, 1),
            "requests_per_gib": round(requests / (total / (1 << 30)), 1),
            "chunk_bytes": chunk_bytes,
        }

    def _repository(self, address: str) -> Repository:
        if self._chunk_kib is None:
            return Repository.init(address)
        return Repository.init(address, chunk_bytes=self._chunk_kib << 10)

    def _environment(self, directory: Path) -> dict[str, str]:
        s3 = self._storage.settings()
        # the defaults of both are what is measured
        del s3["FREEZEFRAME_S3_PATIENCE_S"], s3["FREEZEFRAME_S3_TIMEOUT_S"]
        return {
            **environment(directory, self._redis_url, None),
            **s3,
            "FREEZEFRAME_S3_ENDPOINT": self._far.endpoint,
            "FREEZEFRAME_REPOSITORY": f"s3://{BUCKET}/{directory.name}",
        }


def _transferred(
    directory: Path,
    workers: Sequence[_Worker],
    repository: Repository,
    disks: Sequence[_Disk],
    capture_id: str,
    parents: Sequence[str | None],
) -> tuple[float, list[dict[str, Any]]]:
    """Return how many seconds the transfers of all disks took together, and their results."""
    repository.sessions.begin(capture_id, "ops/bench")
    chunk_bytes = repository.config.chunk_bytes
    with ExitStack() as exports:
        for disk in disks:
            exports.enter_context(disk.served(directory, capture_id))
        shares = shared_out(range(len(disks)), len(workers))
        for worker, share in zip(workers, shares, strict=True):
            orders = [disks[one].order(capture_id, chunk_bytes, parents[one]).model_dump_json() for one in share]
            worker.tell({"transfer": orders})
        told = [worker.answer() for worker in workers]
    results: dict[int, dict[str, Any]] = {}
    for share, answer in zip(shares, told, strict=True):
        results.update(zip(share, answer["results"], strict=True))
    seconds = max(one["ended"] for one in told) - min(one["began"] for one in told)
    return seconds, [results[number] for number in range(len(disks))]


def _manifest(disks: Sequence[_Disk], results: Sequence[dict[str, Any]], chunk_bytes: int) -> Manifest:
    captured = [
        DiskCapture(
            target=TARGET,
            source=str(disk.path),
            source_format="qcow2",
            size_bytes=disk.size_bytes,
            chunk_bytes=chunk_bytes,
            kind=CaptureKind.FULL,
            index=result["index"],
            bytes_read=result["bytes_read"],
            bytes_stored=result["bytes_stored"],
            chunks_new=result["chunks_new"],
            chunks_known=result["chunks_known"],
            checkpoint=CHECKPOINTS[FULL],
        )
        for disk, result in zip(disks, results, strict=True)
    ]
    return manifest_of(FULL, [(disk.uuid, disk.name, one) for disk, one in zip(disks, captured, strict=True)])


@dataclass
class _Worker:
    """A process that does what a host's data process does."""

    process: subprocess.Popen[str]

    @classmethod
    @contextmanager
    def started(cls, env: dict[str, str]) -> Iterator[_Worker]:
        command = [sys.executable, "-m", "ops.measure.s3"]
        root = Path(__file__).parents[2]
        with subprocess.Popen(
            command, env=env, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            worker = cls(process)
            try:
                worker.answer()  # it has imported all that it needs
                yield worker
            finally:
                process.kill()

    def do(self, what: dict[str, Any]) -> dict[str, Any]:
        self.tell(what)
        return self.answer()

    def tell(self, what: dict[str, Any]) -> None:
        print(json.dumps(what), file=self.process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{") and '"began"' in line:
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"a worker of the bench ended with {self.process.wait()}")


@contextmanager
def _environ(env: dict[str, str]) -> Iterator[None]:
    """Give this process the settings of the host, as long as the block lasts."""
    before = dict(os.environ)
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _work() -> None:
    """Do what the bench says, a line at a time."""
    print(json.dumps({"began": 0}), flush=True)
    for line in sys.stdin:
        asked, began = json.loads(line), time.monotonic()
        orders = [TransferOrder.model_validate_json(order) for order in asked.get("transfer", ())]
        results = [transfer(this_host(), order).model_dump(mode="json") for order in orders]
        if "restore" in asked:
            repository = this_host().open_repository()
            out = Path(asked["to"])
            out.mkdir()
            restore_capture(repository, repository.manifest(asked["restore"]), out, image_format=ImageFormat.RAW)
        print(json.dumps({"began": began, "ended": time.monotonic(), "results": results}), flush=True)


if __name__ == "__main__":
    _work()
