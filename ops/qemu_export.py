"""A real QEMU that serves a disk as it does in a backup, without a guest in it: for tests and benches of transfers.

It is started as libvirt starts the QEMU of a guest (`-uuid`), and libvirt's note of it is written where it is looked for.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

from freezeframe.contract.message import CaptureId
from workers.journal import BackupChange, Journal

TARGET = "vda"


class QemuError(RuntimeError):
    """QEMU refused a command, or ended."""


@dataclass(frozen=True)
class FakeGuest:
    """A guest as libvirt notes it in `run_dir`, with its own directory below."""

    name: str
    uuid: str
    run_dir: Path

    @property
    def directory(self) -> Path:
        """Shorter than libvirt's, because tests' directories are deep, and a socket's path is not."""
        return self.run_dir / self.name

    def note(self, pid: int) -> None:
        """Write what libvirt writes of a running guest, as far as it is read."""
        status = etree.Element("domstatus", state="running", reason="booted", pid=str(pid))
        etree.SubElement(status, "libDir", path=str(self.directory))
        domain = etree.SubElement(status, "domain", type="qemu", id="1")
        etree.SubElement(domain, "name").text = self.name
        etree.SubElement(domain, "uuid").text = self.uuid
        self.directory.mkdir(exist_ok=True)
        (self.run_dir / f"{self.name}.xml").write_bytes(etree.tostring(status))

    def begun(self, journal: Journal, capture_id: CaptureId) -> Path:
        """Note in the host's journal that a backup was begun; the socket at which it is served."""
        socket = self.directory / f"{capture_id}.sock"
        change = BackupChange(guest_uuid=self.uuid, socket=socket, checkpoint=None, repository_id="r")
        journal.of(capture_id).record(change)
        return socket


@contextmanager
def running(
    guest: FakeGuest, options: Sequence[str] = (), *, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """The guest's QEMU, with libvirt's note of it, for the length of the block. Its monitor is at its standard input.

    `before`: a command that becomes QEMU, such as setpriv(1).
    """
    command = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-uuid", guest.uuid]
    words = [*command, "-qmp", "stdio", *options]
    with subprocess.Popen([*before, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
        try:
            guest.note(qemu.pid)
            _answer(qemu)  # the greeting
            tell(qemu, "qmp_capabilities")
            yield qemu
        finally:
            qemu.kill()
            qemu.wait()


@contextmanager
def exporting(
    guest: FakeGuest, socket: Path, image: Path, image_format: str = "raw", bitmap: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The guest's QEMU, which serves `image` as its disk vda at `socket`."""
    file = {"driver": "file", "filename": str(image), "read-only": True}
    disk = {"driver": image_format, "node-name": TARGET, "read-only": True, "file": file}
    with running(guest, ["-blockdev", json.dumps(disk)]) as qemu:
        serve(qemu, socket, bitmap)
        yield qemu


def serve(qemu: subprocess.Popen[str], socket: Path, bitmap: str | None = None) -> None:
    """Begin to serve disk vda, as libvirt tells it in a backup. What is at `socket` is unlinked by QEMU."""
    tell(qemu, "nbd-server-start", addr={"type": "unix", "data": {"path": str(socket)}})
    bitmaps = {"bitmaps": [bitmap]} if bitmap else {}
    export = {"type": "nbd", "id": TARGET, "node-name": TARGET, "name": TARGET, **bitmaps}
    tell(qemu, "block-export-add", **export)


def tell(qemu: subprocess.Popen[str], command: str, **arguments: Any) -> Any:
    """Give QEMU a command and return its answer. Raises QemuError."""
    print(json.dumps({"execute": command, "arguments": arguments}), file=qemu.stdin, flush=True)
    while "event" in (answer := _answer(qemu)):
        pass
    if "return" not in answer:
        raise QemuError(f"{command}: {answer}")
    return answer["return"]


def _answer(qemu: subprocess.Popen[str]) -> dict[str, Any]:
    line = qemu.stdout.readline() if qemu.stdout else ""
    if not line:
        raise QemuError(f"QEMU ended with {qemu.wait()}")
    found: dict[str, Any] = json.loads(line)
    return found
