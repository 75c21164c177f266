"""`ops/bench hold`: hold windows of ours beside the floor, the same bare libvirt calls with a barrier within one process.

A round of ours is a whole capture by the command; its hold windows are those of the manifest. A round of the floor freezes,
begins, waits for the others, thaws and asks each guest whether it is thawed, in a thread a guest, on warm connections, with
scratch files made ahead and a checkpoint as ours. Rounds alternate. Redis's part is what the last host to report waits for:
its own report and its own wake-up.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from freezeframe.contract.proof import Proof
from ops.lab import Lab, LabSpec
from ops.lab.guest import Guest
from ops.measure.export import socket_path
from ops.system import System
from workers.hypervisor.backup import BackupDisk, backup_xml
from workers.hypervisor.checkpoint import checkpoint_xml

SIZES = (1, 2, 4, 8)
TARGETS = ("vda", "vdb")
CHECKPOINT = "bench-floor"


def run(directory: Path, rounds: int, sizes: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """All sizes, `rounds` rounds of each contestant."""
    with Lab.up(LabSpec.of(hosts=2, guests=max(sizes), disks=2, size_mib=64), directory / "lab") as lab:
        guests = list(lab.guests.values())
        for guest in guests:
            guest.set_workload(interval_s=1)
        with System(lab, directory / "system") as system:
            rows = [_row(system, _spread(guests, size), rounds, say) for size in sizes]
    return {"bench": "hold", "rounds": rounds, "rows": rows, "cores": os.cpu_count()}


def _spread(guests: Sequence[Guest], size: int) -> list[Guest]:
    """That many guests, of both hosts as far as there are two."""
    by_host: dict[str, list[Guest]] = {}
    for guest in guests:
        by_host.setdefault(guest.host.name, []).append(guest)
    turns = [guest for turn in zip(*by_host.values(), strict=False) for guest in turn]
    return turns[:size]


def _row(system: System, guests: list[Guest], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    ours: list[float] = []
    floor: list[float] = []
    redis: list[float] = []
    _capture(system, guests)  # the first is full and warms everything
    for _ in range(rounds):
        windows, waited_ms = _capture(system, guests)
        ours += windows
        redis.append(waited_ms)
        floor += _floor(guests)
    row = {
        "guests": len(guests),
        "p50_ms": _percentile(ours, 50),
        "p99_ms": _percentile(ours, 99),
        "max_ms": round(max(ours), 1),
        "floor_p50_ms": _percentile(floor, 50),
        "floor_p99_ms": _percentile(floor, 99),
        "redis_p50_ms": _percentile(redis, 50),
    }
    say(", ".join(f"{name} {value}" for name, value in row.items()))
    return row


def _percentile(values: list[float], percent: int) -> float:
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 1)


def _capture(system: System, guests: list[Guest]) -> tuple[list[float], float]:
    """Hold windows of one capture in ms, and Redis's part in it."""
    command = system.command_line("capture", *(guest.name for guest in guests), "--json")
    done = subprocess.run(command, env={**os.environ, **system.settings()}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the capture ended with {done.returncode}: {done.stdout}{done.stderr}")
    manifest = system.repository.manifest(json.loads(done.stdout)["capture_id"])
    assert manifest.proof is not None
    return [guest.hold_ms or 0.0 for guest in manifest.guests], _redis_ms(manifest.proof)


def _redis_ms(proof: Proof) -> float:
    last = proof.arrivals[-1].host_id
    host = next(host for host in proof.hosts if host.host_id == last)
    assert host.woken_ns is not None
    assert host.report_ns is not None
    return (host.woken_ns - host.report_ns) / 1e6


def _floor(guests: list[Guest]) -> list[float]:
    """Hold windows in ms of one round of bare calls. Raises the first failure of one, with nobody left frozen."""
    barrier = threading.Barrier(len(guests))
    prepared = [_prepare(guest) for guest in guests]
    with ThreadPoolExecutor(len(guests)) as pool:
        windows = [pool.submit(_hold, *one, barrier) for one in prepared]
    found = [window.result() for window in windows]
    for domain, _, _ in prepared:
        domain.abortJob()
        domain.checkpointLookupByName(CHECKPOINT).delete()
    return found


def _prepare(guest: Guest) -> tuple[libvirt.virDomain, str, str]:
    disks = []
    for target in TARGETS:
        scratch = guest.folder / f"floor-{target}.qcow2"
        size = str(guest.domain.blockInfo(target)[0])
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(scratch), size], check=True)
        disks.append(BackupDisk(target, scratch))
    return guest.domain, backup_xml(socket_path(guest, "floor"), disks, []), checkpoint_xml(CHECKPOINT, TARGETS, [])


def _hold(domain: libvirt.virDomain, backup: str, checkpoint: str, barrier: threading.Barrier) -> float:
    began = time.monotonic()
    domain.fsFreeze()
    try:
        domain.backupBegin(backup, checkpoint, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)
        barrier.wait(10)
    finally:
        domain.fsThaw()
    libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-fsfreeze-status"}', 5, 0)
    return (time.monotonic() - began) * 1000
