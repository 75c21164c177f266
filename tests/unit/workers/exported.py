"""One disk as QEMU exports it in a backup, with a real bitmap, and transfers of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import TransferResult
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest, Repository
from freezeframe.repository.layout import locate
from ops.qemu_export import FakeGuest, exporting
from workers.host import Host
from workers.hypervisor.backup import bitmap_name
from workers.steps.transfer import transfer

TARGET = "vda"
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"
CHUNK = 64 << 10
SLOTS = 8
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIRST, SECOND = "freezeframe.test.1", "freezeframe.test.2"


def noise(length: int, seed: int) -> bytes:
    return Random(seed).randbytes(length)  # noqa: S311  the same noise each time


CONTENT = noise(SLOTS * CHUNK, 1)


class ExportedDisk:
    """As QEMU exports it in a backup, from a qcow2 with a bitmap of what has changed.

    `content` at first; `write` changes it, and sets bits in the bitmap; `checkpoint` begins a new, clean one.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        raw = path.with_suffix(".raw")
        raw.write_bytes(content)
        _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path))
        raw.unlink()
        self._bitmap("--add")

    def checkpoint(self) -> None:
        self._bitmap("--clear")

    def write(self, offset: int, data: bytes) -> None:
        source = self.path.with_suffix(".data")
        source.write_bytes(data)
        _run("qemu-io", "-f", "qcow2", "-c", f"write -s {source} {offset} {len(data)}", str(self.path))
        source.unlink()

    def discard(self, offset: int, length: int) -> None:
        """Have the disk read zeros there, as after a guest's fstrim."""
        _run("qemu-io", "-f", "qcow2", "-d", "unmap", "-c", f"discard {offset} {length}", str(self.path))

    def zero(self, offset: int, length: int) -> None:
        """Have the guest write zeros there by its disk's command for that."""
        _run("qemu-io", "-f", "qcow2", "-c", f"write -z {offset} {length}", str(self.path))

    @contextmanager
    def served(self, host: Host) -> Iterator[None]:
        guest = FakeGuest("alpha", GUEST, host.settings.libvirt_run_dir)
        socket = guest.begun(host.journal, CAPTURE)
        with exporting(guest, socket, self.path, "qcow2", bitmap_name(TARGET)):
            yield

    def _bitmap(self, action: str) -> None:
        _run("qemu-img", "bitmap", "-f", "qcow2", action, str(self.path), bitmap_name(TARGET))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Guest:
    """One disk, its repository, and transfers of it."""

    def __init__(self, host: Host, place: Path) -> None:
        self.host = host
        self.root = Path(host.repository)
        self.repository = Repository.init(self.root, chunk_bytes=CHUNK)
        self.repository.sessions.begin(CAPTURE, "test")
        self.disk = ExportedDisk(place / "disk.qcow2", CONTENT)
        self._count = 0

    def full(self, checkpoint: str | None = FIRST, **changes: Any) -> TransferResult:
        return self._transfer(kind=CaptureKind.FULL, parent_index=None, checkpoint=checkpoint, **changes)

    def incremental(self, parent: TransferResult, **changes: Any) -> TransferResult:
        wanted = {"parent_index": parent.index, "parent_checkpoint": FIRST, "checkpoint": SECOND, **changes}
        return self._transfer(kind=CaptureKind.INCREMENTAL, **wanted)

    def _transfer(self, **changes: Any) -> TransferResult:
        usual = {
            "capture_id": CAPTURE,
            "epoch": 1,
            "host_id": "host-a",
            "not_after": datetime.now(UTC) + timedelta(hours=1),
            "guest_uuid": GUEST,
            "guest_name": "alpha",
            "target": TARGET,
            "size_bytes": len(CONTENT),
            "chunk_bytes": CHUNK,
        }
        order = TransferOrder.model_validate({**usual, **changes})
        with self.disk.served(self.host):
            return transfer(self.host, order)

    def read(self, result: TransferResult) -> bytes:
        with self.repository.disk_reader(result.index or "") as reader:
            return b"".join(extent.data or bytes(extent.length) for extent in reader)

    def seal(self, result: TransferResult) -> Manifest:
        disk = DiskCapture(
            target=TARGET,
            source="/images/disk.qcow2",
            source_format="qcow2",
            size_bytes=len(CONTENT),
            chunk_bytes=CHUNK,
            kind=CaptureKind.FULL,
            index=result.index or "",
            bytes_read=result.bytes_read,
            bytes_stored=result.bytes_stored,
            chunks_new=result.chunks_new,
            chunks_known=result.chunks_known,
        )
        guest = GuestCapture(
            guest_uuid=GUEST,
            name="alpha",
            host_id="host-a",
            domain_xml="<domain/>",
            consistency=Consistency.CRASH,
            hold_ms=None,
            disks=(disk,),
        )
        manifest = Manifest(
            capture_id=CAPTURE,
            created_at=NOW,
            instant=Instant(at=NOW),
            hold=HoldKind.NONE,
            policy=Policy.ALL,
            consistency=Consistency.CRASH,
            kind=CaptureKind.FULL,
            guests=(guest,),
            proof=None,
        )
        self.repository.write_manifest(manifest)
        return manifest

    def chunk_file(self, result: TransferResult, slot: int) -> Path:
        with self.repository.index(result.index or "") as index:
            return self.root / locate(index.digest_at(slot) or b"")
