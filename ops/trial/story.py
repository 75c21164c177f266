"""The story of a trial, step by step."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from freezeframe.contract.words import Consistency
from freezeframe.repository import DiskCapture, GuestCapture, Manifest
from ops.lab import Image
from ops.system import System
from ops.trial.account import Account, CaptureAccount, GuestAccount
from ops.trial.instant import instant_fault
from ops.trial.truth import DiskTruth, read_truth, same_bytes, transfers_paused, wait_until_transferring

Say = Callable[[str], None]
Truths = dict[str, dict[str, DiskTruth]]  # by guest and target


class TrialError(RuntimeError):
    """The trial came to an end before its end."""


class Trial:
    """One trial on a system that runs."""

    def __init__(self, system: System, directory: Path, say: Say, guests: Collection[str] = ()) -> None:
        """Of all guests of the lab, or of those alone."""
        self._system = system
        self._lab = system.lab
        self._guests = [guest for name, guest in self._lab.guests.items() if not guests or name in guests]
        self._wanted = sorted(guests) or ["--all"]
        self._directory = directory
        self._say = say

    def run(self, *, boot: bool = True) -> Account:
        """Capture, change, capture again, restore both, compare, boot one."""
        account = Account()
        first, first_truth, first_s = self._capture("full")
        self._change()
        second, second_truth, second_s = self._capture("incremental")
        account.captures.append(self._check(first, first_truth, first_s))
        account.captures.append(self._check(second, second_truth, second_s))
        account.booted = self._boot(second) if boot else None
        guests = [guest for capture in account.captures for guest in capture.guests]
        account.ok = bool(guests) and all(guest.identical and not guest.faults for guest in guests)
        return account

    def freezeframe(self, *arguments: str) -> dict[str, Any]:
        """Run the command as a user would, and return what it prints as JSON."""
        command = self._system.command_line(*arguments, "--json")
        done = subprocess.run(command, env=self._env(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise TrialError(
                f"freezeframe {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self._system.settings()}

    def _capture(self, what: str) -> tuple[Manifest, Truths, float]:
        """One capture of all guests, its truth read in the middle of it."""
        directory = self._directory / what
        directory.mkdir(parents=True)
        full = ["--full"] if what == "full" else []  # also where there is something to build upon
        command = self._system.command_line("capture", *self._wanted, *full, "--json")
        with ExitStack() as until_ended:
            with transfers_paused(self._system):  # before it begins: it must not be further than that when they are
                began = time.monotonic()
                capturing = until_ended.enter_context(
                    subprocess.Popen(command, env=self._env(), stdout=subprocess.PIPE, text=True)
                )
                wait_until_transferring(self._system.redis, capturing)
                held_s = time.monotonic() - began
                truth = {guest.name: read_truth(guest, directory) for guest in self._guests}
                paused_s = time.monotonic() - began - held_s
            output, _ = capturing.communicate()
        return self._captured(what, output, truth, time.monotonic() - began - paused_s)

    def _captured(self, what: str, output: str, truth: Truths, seconds: float) -> tuple[Manifest, Truths, float]:
        manifest = self._system.repository.manifest(json.loads(output)["capture_id"])
        self._say(
            f"{what}: captured {len(manifest.guests)} guests at one instant in {seconds:.1f} s ({manifest.capture_id})"
        )
        for guest in manifest.guests:
            self._say(f"  {guest.name} on {guest.host_id} was held for {guest.hold_ms:.0f} ms")
        return manifest, truth, seconds

    def _change(self) -> None:
        """Change data in every guest, on every disk."""
        for guest in self._guests:
            for target in guest.mounts():
                guest.shell(f"dd if=/dev/urandom of=/mnt/{target}/changed bs=1024k count=3 conv=fsync 2>/dev/null")
        self._say("changed 3 MiB on every disk of each of them")

    def _check(self, manifest: Manifest, truth: Truths, seconds: float) -> CaptureAccount:
        """Restore a capture and compare it with its truth."""
        directory = self._directory / f"restored-{manifest.capture_id}"
        self.freezeframe("restore", manifest.capture_id, "--to", str(directory), "--format", "raw")
        guests = [self._check_guest(manifest, guest, directory, truth[guest.name]) for guest in manifest.guests]
        identical = sum(guest.identical for guest in guests)
        self._say(f"restored {manifest.capture_id}: {identical} of {len(guests)} guests are identical, byte by byte")
        return CaptureAccount(
            capture_id=manifest.capture_id, consistency=manifest.consistency, seconds=round(seconds, 2), guests=guests
        )

    def _check_guest(
        self, manifest: Manifest, guest: GuestCapture, directory: Path, truth: dict[str, DiskTruth]
    ) -> GuestAccount:
        restored = {disk.target: directory / f"{guest.name}-{disk.target}.raw" for disk in guest.disks}
        faults = [] if manifest.consistency is Consistency.GROUP else [f"labelled {manifest.consistency}"]
        for target, path in restored.items():
            fault = self._instant_fault(manifest, guest, target, path)
            faults += [f"{target}: {fault}"] if fault else []
        faults += [fault for disk in guest.disks if (fault := _excess(disk, truth[disk.target]))]
        for fault in faults:
            self._say(f"  {guest.name}: {fault}")
        dirty = [disk.dirty_bytes for disk in guest.disks if disk.dirty_bytes is not None]
        return GuestAccount(
            guest=guest.name,
            host=guest.host_id,
            hold_ms=round(guest.hold_ms or 0.0, 1),
            consistency=guest.consistency,
            kinds={disk.target: disk.kind for disk in guest.disks},
            bytes_read=sum(disk.bytes_read for disk in guest.disks),
            bytes_stored=sum(disk.bytes_stored for disk in guest.disks),
            dirty_bytes=sum(dirty) if dirty else None,
            identical=truth.keys() == restored.keys()
            and all(same_bytes(path, truth[target].path) for target, path in restored.items()),
            faults=faults,
        )

    def _instant_fault(self, manifest: Manifest, guest: GuestCapture, target: str, path: Path) -> str | None:
        hosts = manifest.proof.hosts if manifest.proof else ()
        steps = {step.guest_uuid: step for host in hosts for step in host.guests}
        return instant_fault(self._lab.guest(guest.name), target, path, steps[guest.guest_uuid])

    def _boot(self, manifest: Manifest) -> str:
        """Boot a restored guest, from qcow2 this time, until its agent answers."""
        guest = manifest.guests[0]
        directory = self._directory / "boot"
        wanted = ("--guest", guest.name, "--to", str(directory), "--format", "qcow2")
        self.freezeframe("restore", manifest.capture_id, *wanted)
        images = [Image(directory / f"{guest.name}-{disk.target}.qcow2", "qcow2") for disk in guest.disks]
        host = next(iter(self._lab.hosts))
        with self._lab.boots(host, images, name="restored") as booted:
            booted.shell("true")
        self._say(f"booted the restored {guest.name}; its agent answers")
        return guest.name


def _excess(disk: DiskCapture, truth: DiskTruth) -> str | None:
    """Whether an incremental has read more than the dirty ranges, rounded out to chunks."""
    allowed = truth.dirty_chunk_bytes(disk.chunk_bytes)
    if allowed is None or disk.bytes_read <= allowed:
        return None
    return f"{disk.target}: {disk.bytes_read} bytes were read, and {allowed} at most were dirty"
