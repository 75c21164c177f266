"""`ops/bench throughput`: a full capture of one disk, beside peers, the simple loop and the roofline.

MB are 10^6 bytes of guest data read, the same number for all: what the disk has allocated, in chunks. Seconds are of the whole
command, for ours from the request to the receipt: planning, preparing, the hold, the transfer with every byte durable,
the manifest, and the release. How long of that the transfer took, from its order to the seal, is told beside it: the
roofline is a limit of that part. The disk is in the page cache for each of them, since the roofline counts no waiting, and
what sockets hold (`send_buffer.py`) is the same for all.

The *durable* rows add for each what it takes until all of it is on the disk (`disk.py`): peers and the loop sync nothing.
Beside them stands how fast the disk takes bytes one after another, measured in each round. The limit of ours is the roofline,
or the disk where that takes longer for what is stored; `over_limit` is the ratio to the lower of the two.
"""

from __future__ import annotations

import os
import secrets
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from freezeframe.client import Client
from freezeframe.contract.event import StateEvent
from freezeframe.contract.words import RunState
from freezeframe.settings import BusSettings
from ops.lab import DiskSpec, Lab, LabSpec, WorkloadSpec
from ops.lab.spec import GuestSpec, Placement
from ops.measure import disk, loop, material, peers, roofline
from ops.measure.export import exported
from ops.measure.failed import failure
from ops.measure.peers import Contestant, Round
from ops.measure.roofline import Roofline
from ops.measure.source import warm
from ops.system import System
from workers.peer import Peer

GUEST, TARGET = "bench", "vdb"
OURS = "freezeframe"
_PEERS = ("virtnbdbackup", "qemu-img")


@dataclass(frozen=True)
class Own:
    """One round of ours, and the roofline right after it, so that the machine is in the same mood."""

    command_s: float
    transfer_s: float
    limit: Roofline

    def over_roofline(self, seconds: float, read_bytes: int) -> float:
        return read_bytes / seconds / 1e6 / self.limit.mb_per_s


@dataclass
class Durable:
    """The second set of rows: seconds until all is on the disk, by contestant, and the disk's own rate, by round."""

    rounds: dict[str, list[float]] = field(default_factory=dict)
    disk_mb_per_s: list[float] = field(default_factory=list)

    def add(self, name: str, seconds: float) -> None:
        self.rounds.setdefault(name, []).append(seconds)

    def report(self, read_bytes: int, stored_bytes: int, roofline_mb_per_s: float) -> dict[str, Any]:
        """Return the rows. Of seconds the best round counts; of the disk, whose mood is no contestant's, the median. Pure."""
        best = {name: min(rounds) for name, rounds in self.rounds.items()}
        rate = statistics.median(self.disk_mb_per_s)
        disk_limit = rate * read_bytes / stored_bytes  # MB/s of guest data
        limit = min(disk_limit, roofline_mb_per_s)
        rates = {name: read_bytes / seconds / 1e6 for name, seconds in best.items()}
        return {
            "rows": {name: {"mb_per_s": round(rates[name], 1), "seconds": round(best[name], 2)} for name in best},
            "disk_mb_per_s": round(rate, 1),
            "disk_rounds_mb_per_s": [round(one, 1) for one in self.disk_mb_per_s],
            "disk_limit_mb_per_s": round(disk_limit, 1),
            "limited_by": "disk" if disk_limit < roofline_mb_per_s else "processors",
            "over_limit": round(rates[OURS] / limit, 2),
            "over": {name: round(rates[OURS] / other, 2) for name, other in rates.items() if name != OURS},
        }


def run(
    directory: Path, rounds: int, times: int, say: Callable[[str], None], *, repeats: bool = True
) -> dict[str, Any]:
    """All contestants, `rounds` times, interleaved, on a disk of `times` the usual size."""
    image = directory / "disk.qcow2"
    material.make(image, times * material.THIRD_MIB, times * material.DISK_MIB, repeats=repeats)
    say(f"made a disk of {times * material.DISK_MIB} MiB, {image.stat().st_blocks * 512 / 1e9:.2f} GB allocated")
    with Lab.up(lab_spec(image), directory / "lab") as lab, System(lab, directory / "system") as system:
        say(f"guest {GUEST} runs, by {lab.accelerator}")
        contestants = _contestants(system)
        best: dict[str, Round] = {}
        own: list[Own] = []
        durable = Durable()
        for number in range(rounds):
            for name, contestant in contestants.items():
                out = directory / f"{name}-{number}"
                warm(image)
                seconds, stored = contestant(out)
                flush_s = disk.sync_s(directory)
                durable.add(name, seconds + flush_s)
                if name in _PEERS:  # of few files; what has many stays until the end, see `empty`
                    shutil.rmtree(out)
                took = f"{seconds:.1f} s, {flush_s:.1f} s more until all was durable,"
                say(f"round {number + 1}: {name} took {took} and stored {stored / 1e6:.0f} MB")
                best[name] = min(best.get(name, (seconds, stored)), (seconds, stored))
                if name == OURS:
                    transfer_s = _transfer_s(system)
                    warm(image)
                    own.append(Own(seconds, transfer_s, _limit(system, directory / f"roofline-{number}")))
                    durable.disk_mb_per_s.append(disk.sequential_mb_per_s(directory, stored))
                    say(
                        f"round {number + 1}: transfer {transfer_s:.1f} s, roofline {own[-1].limit.mb_per_s:.0f} MB/s, "
                        f"disk {durable.disk_mb_per_s[-1]:.0f} MB/s"
                    )
        report = _report(system, best, own)
        rows = durable.report(report["read_bytes"], best[OURS][1], report["roofline_mb_per_s"])
        return {"bench": "throughput", "repeats": repeats, **report, "durable": rows}


def lab_spec(image: Path) -> LabSpec:
    disks = (DiskSpec(target="vda", size_mib=64), DiskSpec(target=TARGET, source=image))
    guest = GuestSpec(name=GUEST, disks=disks, workload=WorkloadSpec(running=False, fill_mib=0))
    return LabSpec(hosts=("host-a",), guests=(Placement(host="host-a", guest=guest),))


def _contestants(system: System) -> dict[str, Contestant]:
    guest = system.lab.guest(GUEST)
    return {
        OURS: lambda _out: _freezeframe(system),
        "loop": lambda out: _loop(system, out),
        "virtnbdbackup": peers.virtnbdbackup(guest, TARGET),
        "qemu-img": peers.qemu_img(guest, TARGET),
    }


def _freezeframe(system: System) -> Round:
    """A full capture into an empty repository: nothing is known, everything must be stored."""
    empty(system.repository_path)
    seconds = captured(system, "--full")
    for checkpoint in system.lab.guest(GUEST).domain.listAllCheckpoints():
        checkpoint.delete()  # virtnbdbackup refuses a guest that has anybody else's
    return seconds, peers.folder_bytes(system.repository_path)


def captured(system: System, *options: str) -> float:
    """Capture the bench's disk; seconds of the whole command, whose program is in the page cache as the disk is."""
    subprocess.run(system.command_line("capture", "--help"), capture_output=True, check=True)
    command = system.command_line("capture", GUEST, *options, "--skip-disk", f"{GUEST}:vda", "--json")
    began = time.monotonic()
    done = subprocess.run(command, env={**os.environ, **system.settings()}, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        raise failure(done.returncode, done.stdout, done.stderr)
    return seconds


def _transfer_s(system: System) -> float:
    """Of the newest capture, as the orchestrator told of it."""
    capture_id = system.repository.manifest("latest").capture_id
    events = Client(BusSettings.model_validate({"redis_url": system.redis_url})).follow(capture_id)
    at = {event.state: event.at for event in events if isinstance(event, StateEvent)}
    return (at[RunState.SEALING] - at[RunState.TRANSFERRING]).total_seconds()


def empty(repository: Path) -> None:
    """Put what is in a repository aside, so that it is as after `init`.

    Not deleted: for a minute after a file was deleted ext4 looks at its inode again and again before it makes a new one
    (fs/ext4/ialloc.c, recently_deleted), which took a seventh of the CPU of whoever made many files.
    """
    aside = repository.with_name(f"{repository.name}-{secrets.token_hex(4)}")
    repository.rename(aside)
    for folder in (path for path in aside.rglob("*") if path.is_dir()):
        (repository / folder.relative_to(aside)).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(aside / "config", repository / "config")


def _loop(system: System, out: Path) -> Round:
    guest = system.lab.guest(GUEST)
    with exported(guest, TARGET) as socket:
        seconds, _, _ = loop.run(socket, TARGET, _peer(guest.uuid), out)
    return seconds, peers.folder_bytes(out)


def _limit(system: System, scratch: Path) -> Roofline:
    guest = system.lab.guest(GUEST)
    with exported(guest, TARGET) as socket:
        return roofline.measure(socket, TARGET, _peer(guest.uuid), scratch)


def _report(system: System, best: dict[str, Round], own: list[Own]) -> dict[str, Any]:
    """Of seconds the best round counts; of what is over the roofline, which is a ratio within a round, the median round."""
    read = system.repository.manifest("latest").guests[0].disks[0].bytes_read
    limit = sorted((one.limit for one in own), key=lambda limit: limit.mb_per_s)[(len(own) - 1) // 2]

    def figures(name: str) -> dict[str, Any]:
        seconds, stored = best[name]
        return {"mb_per_s": round(read / seconds / 1e6, 1), "stored_bytes": stored, "seconds": round(seconds, 2)}

    return {
        **figures(OURS),
        "read_bytes": read,
        "roofline_mb_per_s": round(limit.mb_per_s, 1),
        "roofline_cpu_s": {part: round(value * read, 2) for part, value in asdict(limit).items()},
        **_over_roofline("over_roofline", [one.over_roofline(one.command_s, read) for one in own]),
        "transfer_s": round(min(one.transfer_s for one in own), 2),
        **_over_roofline("transfer_over_roofline", [one.over_roofline(one.transfer_s, read) for one in own]),
        "stored_over_virtnbdbackup": round(best[OURS][1] / best["virtnbdbackup"][1], 3),
        "loop": figures("loop"),
        "seconds_over_loop": round(best[OURS][0] / best["loop"][0], 2),
        "peers": {name: figures(name) for name in _PEERS},
        "cores": os.cpu_count(),
    }


def _over_roofline(name: str, rounds: list[float]) -> dict[str, Any]:
    return {name: round(statistics.median(rounds), 2), f"{name}_rounds": [round(one, 2) for one in rounds]}


def _peer(uuid: str) -> Peer:
    """The guest's QEMU, by the UUID in its command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if uuid.encode() in command:
                return Peer("the guest's QEMU", int(folder.name))
    raise RuntimeError(f"no process runs guest {uuid}")
