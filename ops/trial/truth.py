"""The truth of a capture: every disk as the guest had it at the instant, read by qemu-img and not by us.

The data workers are told to stop taking orders, so that the capture rests between hold and transfer with its guests running;
then qemu-img reads every export to a raw file, and the data workers go on. Nothing is added to the hold window.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from lxml import etree

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.words import RunState
from ops.lab.guest import Guest
from ops.system import System

#: Seconds for a capture to come as far as its transfers.
HELD_S = 120.0


class TruthError(RuntimeError):
    """The truth could not be read."""


@contextmanager
def transfers_paused(system: System) -> Iterator[None]:
    """Data workers take no orders within this block; those that come meanwhile wait in their queues."""
    _tell(system, "cancel_consumer")
    try:
        yield
    finally:
        _tell(system, "add_consumer")


def _tell(system: System, command: str) -> None:
    app = bus.celery_app("trial", system.bus_settings)
    with app.connection_for_write() as connection:
        for host_id in system.lab.hosts:
            answers = app.control.broadcast(
                command,
                arguments={"queue": names.data_queue(host_id)},
                destination=[f"data@{host_id}"],
                reply=True,
                limit=1,
                timeout=60.0,
                connection=connection,
            )
            if not any("ok" in answer for reply in answers for answer in reply.values()):
                raise TruthError(f"the data worker of {host_id} did not obey {command}: {answers}")


def wait_until_transferring(client: redis.Redis, capturing: subprocess.Popen[str]) -> str:
    """The id of the one capture that is under way, once its guests run again and its exports stand.

    Raises TruthError with what the command printed if it ends before.
    """
    deadline = time.monotonic() + HELD_S
    while time.monotonic() < deadline:
        if capturing.poll() is not None:
            raise TruthError(f"the capture ended with {capturing.returncode}: {capturing.communicate()}")
        for capture_id in cast("set[str]", client.smembers(names.ACTIVE_RUNS_KEY)):
            record: dict[str, Any] = json.loads(
                cast("str | None", client.hget(names.run_key(capture_id), "record")) or "{}"
            )
            if record.get("state") == RunState.TRANSFERRING:
                return capture_id
        time.sleep(0.02)
    raise TruthError("no capture came as far as its transfers")


@dataclass(frozen=True)
class DiskTruth:
    """One disk at the instant: its bytes in a raw file, and the ranges that QEMU says have changed since the parent."""

    path: Path
    dirty: tuple[tuple[int, int], ...] | None  # (start, length); None for a full

    def dirty_chunk_bytes(self, chunk_bytes: int) -> int | None:
        """The most that an incremental may read: every dirty range, rounded out to chunks."""
        if self.dirty is None:
            return None
        size = self.path.stat().st_size
        slots = {
            slot
            for start, length in self.dirty
            for slot in range(start // chunk_bytes, -(-(start + length) // chunk_bytes))
        }
        return sum(min(chunk_bytes, size - slot * chunk_bytes) for slot in slots)


def read_truth(guest: Guest, directory: Path) -> dict[str, DiskTruth]:
    """Read every export of a guest; truths by target."""
    backup = etree.fromstring(guest.domain.backupGetXMLDesc())
    server = backup.find("server")
    if server is None:
        raise TruthError(f"{guest.name} has no backup")
    socket = server.get("socket", "")
    truths = {}
    for disk in backup.iterfind("disks/disk[@backup='yes']"):
        target = disk.get("name", "")
        path = directory / f"{guest.name}-{target}.truth"
        export = f"nbd+unix:///{target}?socket={socket}"
        guest.host.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", export, str(path)])
        bitmap = disk.get("exportbitmap")
        truths[target] = DiskTruth(path, _dirty(guest, socket, target, bitmap) if bitmap else None)
    return truths


def _dirty(guest: Guest, socket: str, target: str, bitmap: str) -> tuple[tuple[int, int], ...]:
    """What qemu-img sees of a bitmap: with x-dirty-bitmap, `data` is false where the bit is set. [qemu nbd driver]"""
    export = f"driver=nbd,server.type=unix,server.path={socket},export={target}"
    context = f"x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}"
    done = guest.host.run(["qemu-img", "map", "--output=json", "--image-opts", f"{export},{context}"])
    return tuple((extent["start"], extent["length"]) for extent in json.loads(done.stdout) if not extent["data"])


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes. Reads both whole."""
    piece = 4 << 20
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while data := first.read(piece):
            if data != second.read(piece):
                return False
    return True
