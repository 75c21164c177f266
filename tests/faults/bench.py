"""The test bench: the system, its parts under the hand of a supervisor, the guests with a freeze hook, and the judge."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from freezeframe.contract import proof
from freezeframe.contract.words import RunState
from freezeframe.presence import KnownHost, known_hosts
from freezeframe.repository import Manifest
from freezeframe.repository.errors import CaptureNotFound
from ops.lab.errors import LabError
from ops.lab.guest import Guest
from ops.lab.hook import hook_agent
from ops.lab.process import children
from ops.lab.waiting import wait_for
from ops.system import Part, System
from ops.trial.truth import DiskTruth, read_truth, same_bytes, transfers_paused
from tests.lab.traces import traces

from .account import Account
from .hand import give_hand
from .watch import Capture

#: Seconds until nothing is left of an interrupted capture, once everything is up again. Recovery, reconciler and guard look
#: every few seconds; the longest wait is a run's own deadline, which the caller is told of before.
SETTLE_S = 180.0

#: The agent's own freeze hook [qemu-ga --fsfreeze-hook]: called before it freezes and after it has thawed.
HOOK = "#!/bin/sh\necho $1 >>/run/hook-calls\n[ -e /run/on-$1 ] && . /run/on-$1\nexit 0\n"


AGENT_PID = "$(cat /run/qemu-ga.pid)"

#: Room in the repository, which has a filesystem of its own, so that it can be full. In memory; used only as far as needed.
REPOSITORY_BYTES = 6 << 30


@dataclass(frozen=True)
class Condition:
    """What must be as it was found."""

    definition: str
    disks: tuple[str, ...]
    files: tuple[str, ...]
    checkpoints: tuple[str, ...]


class Bench:
    def __init__(self, system: System, directory: Path, account: Account) -> None:
        self.system = system
        self.lab = system.lab
        self.account = account
        self.struck: set[str] = set()  # parts that a fault has in hand, which a stage must leave alone
        self.later: list[Callable[[], None]] = []  # to be done once a guest's agent answers again
        self._directory = directory
        account.accelerator = self.lab.accelerator

    # Guests.

    def guests(self) -> dict[str, Guest]:
        return self.lab.guests

    def equip(self) -> None:
        for guest in self.guests().values():
            self.equip_guest(guest)

    def equip_guest(self, guest: Guest) -> None:
        """Give us a hand in it, and start its agent anew, with our hook."""
        give_hand(guest)
        hook_agent(guest, HOOK)

    def freezes(self) -> dict[str, int]:
        """How often each guest's agent was told to freeze, since it has the hook."""
        count = "grep -c freeze /run/hook-calls || true"
        return {name: int(guest.shell(count) or 0) for name, guest in self.guests().items()}

    def forget_paces(self) -> None:
        """A guest that is known as slow is frozen first, and nobody would wait for it."""
        for host in self.lab.hosts:
            for path in (self.system.directory / host / "state" / "paces").iterdir():
                path.unlink()

    def follow_advice(self) -> None:
        """Capture as the refusal of a guest that is known as slow advises; then it is known as quick again.

        Its host cannot tell an agent that stood still from one that freezes slowly.
        """
        refused = Capture(self.system)
        if refused.end() != "slow-freeze":
            return  # it has been forgotten
        assert refused.receipt is not None
        longer = re.search(r"--hold-timeout (\d+)", refused.receipt.faults[0].advice)
        assert longer is not None, refused.receipt.faults
        self.settle()
        followed = Capture(self.system, hold_timeout_s=float(longer[1]))
        assert followed.end() == "sealed, group", followed.receipt
        self.settle()

    def on_freeze(self, guest: str, script: str | None) -> None:
        """What a guest's agent does before it freezes."""
        one = self.lab.guest(guest)
        if script is None:
            one.shell("rm -f /run/on-freeze")
        else:
            one.write_file("/run/on-freeze", f"{script}\n".encode())

    # Parts, as their supervisor sees them.

    def kill(self, *names: str) -> None:
        for name in names:
            part = self.system.parts[name]
            part.signal(signal.SIGKILL)
            _signal(part.process.pid, signal.SIGCONT)  # nsenter stops when its child is stopped
            part.process.wait(30)

    def restart(self, *names: str) -> None:
        """Start parts that have died."""
        for name in names:
            self.system.forget_part(name)
            part, _, host = name.partition("@")
            self.system.start_part(part, self.lab.host(host) if host else None)

    def kill_when_lost(self, name: str) -> None:
        """As the supervisor does with a part that it has not heard for too long."""
        pulse = self.system.parts[name].pulse
        assert pulse is not None
        wait_for(f"no sign of life of {name}", pulse.lost, 60.0, 0.05)
        self.kill(name)

    def wait_let_go(self, host_id: str) -> None:
        """Until the guests of the host run again. The guard keeps their leases for longer: a call may be under way."""
        guests = [guest for guest in self.guests().values() if guest.host.name == host_id]
        wait_for(
            f"{host_id}: guests run", lambda: all(guest.fsfreeze_status() == "thawed" for guest in guests), 60.0, 0.2
        )

    def kill_process(self, pid: int) -> None:
        """One that a part has started."""
        _signal(pid, signal.SIGKILL)

    def mended(self, mend: Callable[[Bench], None]) -> None:
        """Mend, wait until every part does its work, and do what had to wait for that."""
        mend(self)
        self.wait_up()
        while self.later:
            act = self.later.pop()
            wait_for("a guest's agent", lambda act=act: _done(act), 180.0, 0.2)  # type: ignore[misc]

    def redis_cli(self, *words: str) -> None:
        """A command whose answer is not waited for."""
        command = ["redis-cli", "-h", str(self.lab.address), "-p", str(self.system.port), "--no-auth-warning", *words]
        asking = subprocess.Popen(
            command,
            env={**os.environ, "REDISCLI_AUTH": self.system.password},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.later.append(lambda: _ended(asking))
        time.sleep(0.05)

    def restart_redis(self) -> None:
        self.system.forget_part("redis")
        self.system.start_redis()

    def stop(self, name: str) -> None:
        """SIGSTOP, a worker's own processes too."""
        for pid in self._pids(self.system.parts[name]):
            _signal(pid, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        part = self.system.parts[name]
        if part.process.poll() is None:
            for pid in (*reversed(self._pids(part)), part.process.pid):
                _signal(pid, signal.SIGCONT)

    def go_on_main_only(self, name: str) -> None:
        """The worker goes on, the processes of its tasks stay stopped."""
        part = self.system.parts[name]
        for pid in (part.pid, part.process.pid):
            _signal(pid, signal.SIGCONT)

    @staticmethod
    def _pids(part: Part) -> list[int]:
        return [part.pid, *children(part.pid)]

    def task_processes(self, name: str) -> list[int]:
        return children(self.system.parts[name].pid)

    def wait_up(self) -> None:
        """Every part does its work: what went deaf does not pass (kombu after a Redis restart, celery #8030)."""
        self.system.wait_ready()

    def hosts(self) -> list[KnownHost]:
        return known_hosts(self.system.redis)

    # The repository's filesystem.

    def repository_bytes(self) -> int:
        """What the repository's filesystem holds."""
        usage = os.statvfs(self.system.repository_path)
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize

    def resize_repository(self, size: int) -> None:
        place = self.system.repository_path.parent
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

    # The judge.

    def conditions(self) -> dict[str, Condition]:
        return {name: self._condition(guest) for name, guest in self.guests().items()}

    @staticmethod
    def _condition(guest: Guest) -> Condition:
        domain = guest.domain
        live = etree.fromstring(domain.XMLDesc())
        return Condition(
            definition=domain.XMLDesc(2),  # VIR_DOMAIN_XML_INACTIVE
            disks=tuple(
                str(etree.tostring(part, encoding="unicode")).strip()
                for name in ("source", "backingStore")
                for part in live.iterfind(f"devices/disk/{name}")
            ),
            files=tuple(sorted(path.name for path in guest.folder.iterdir())),
            checkpoints=tuple(sorted(one.getName() for one in domain.listAllCheckpoints())),
        )

    def settle(self, blind: Container[str] = ()) -> float:
        """Wait until nothing is left behind; how long that took. A guest that was off when its capture was released keeps
        older checkpoints until the next one, since libvirt deletes them of running guests only.
        """
        began = time.monotonic()
        left: list[str] = ["not looked yet"]

        def clean() -> bool:
            nonlocal left
            left = [trace for trace in self._traces() if not _older_checkpoints(trace, blind)]
            return not left

        try:
            wait_for("clean", clean, SETTLE_S, 0.3)
        except LabError as error:
            raise AssertionError(f"left behind after {SETTLE_S:g} s: {left}") from error
        return time.monotonic() - began

    def _traces(self) -> list[str]:
        try:
            return traces(self.system)
        except (LabError, subprocess.SubprocessError) as error:
            return [str(error)]

    def manifest(self, capture_id: str) -> Manifest | None:
        try:
            return self.system.repository.manifest(capture_id)
        except CaptureNotFound:
            return None

    def newest(self) -> str:
        """The newest sealed capture."""
        return max(manifest.capture_id for manifest in self.system.repository.manifests())

    def exact(self, what: str, *, full: bool = False) -> str:
        """Capture once more, read the truth beside it, compare every byte; what was captured, in a word or two."""
        directory = self._directory / what.replace(" ", "-").replace("'", "")
        directory.mkdir()
        with transfers_paused(self.system):
            capture = Capture(self.system)
            capture.wait(RunState.TRANSFERRING)
            truth = {name: read_truth(guest, directory) for name, guest in self.guests().items()}
        outcome = capture.end()
        assert outcome == "sealed, group", f"the capture after it: {outcome}: {capture.receipt}"
        self.settle()
        return self._compare(capture.capture_id, truth, directory, full=full)

    def _compare(self, capture_id: str, truth: dict[str, dict[str, DiskTruth]], directory: Path, *, full: bool) -> str:
        manifest = self.system.repository.manifest(capture_id)
        assert {guest.name for guest in manifest.guests} == truth.keys()
        reasons = {}
        for guest, disk in manifest.disks():
            image = directory / f"{guest.name}-{disk.target}.restored"
            with image.open("wb") as file, self.system.repository.disk_reader(disk.index) as reader:
                file.truncate(disk.size_bytes)
                for extent in reader:
                    if extent.data is not None:
                        file.seek(extent.offset)
                        file.write(extent.data)
            assert same_bytes(image, truth[guest.name][disk.target].path), f"{guest.name} {disk.target} differs"
            image.unlink()
            truth[guest.name][disk.target].path.unlink()
            reasons[guest.name, disk.target] = disk.full_reason
        not_incremental = {key: reason for key, reason in reasons.items() if reason}
        assert full or not not_incremental or len(self.system.repository.manifests()) == 1, not_incremental
        if not not_incremental:
            return "incremental, identical"
        return f"{len(not_incremental)} of {len(reasons)} disks in full, identical"

    def judge(self, capture: Capture, outcome: str, before: dict[str, Condition], blind: Container[str] = ()) -> None:
        """Sealed and proven, or nothing at all; and all as it was found."""
        manifest = self.manifest(capture.capture_id)
        if outcome.startswith("sealed"):
            assert manifest is not None
            assert manifest.proof is not None
            assert proof.consistency(manifest.proof) == manifest.consistency
            assert outcome == f"sealed, {manifest.consistency}"
        after = self.conditions()
        for name, then in before.items():
            now = after[name]
            assert (now.definition, now.disks, now.files) == (then.definition, then.disks, then.files), name
            mine = tuple(one for one in now.checkpoints if one.endswith(capture.capture_id))
            wanted = mine if manifest is not None else then.checkpoints
            assert name in blind or now.checkpoints == wanted, (
                f"{name}: checkpoints {now.checkpoints}, and {then.checkpoints} before"
            )


def _older_checkpoints(trace: str, blind: Container[str]) -> bool:
    return "more than one checkpoint" in trace and trace.partition(":")[0] in blind


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.wait(30)


def _done(act: Callable[[], None]) -> bool:
    try:
        act()
    except LabError:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def until(what: str, true: Callable[[], bool], timeout_s: float = 60.0, interval_s: float = 0.002) -> None:
    """Poll tightly: steps are short."""
    wait_for(what, true, timeout_s, interval_s)
