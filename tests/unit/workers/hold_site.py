"""Two hosts, or more, with two guests each, prepared and not yet held; their guards and Redis."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import libvirt_qemu
import pytest

from freezeframe import bus
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import GuestToHold, HoldOrder
from freezeframe.contract.proof import Arrival, Proof
from freezeframe.contract.result import HoldResult, PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind, HoldKind, Step
from freezeframe.settings import BusSettings, HostSettings
from workers import durable
from workers.boot import boot_id, now_s
from workers.claims import Claims
from workers.guard.client import GuardError
from workers.guard.lease import LeasedGuest, LeaseFiles, StoredLease
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.identity import uses
from workers.identity.places import Places, places_of
from workers.identity.storage import SYS
from workers.journal import HoldChange, Journal, LetGoChange
from workers.pace import Paces
from workers.qemu_process import QemuProcess
from workers.steps import hold as step

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
REPOSITORY = "00000000-0000-4000-8000-0000000000ff"
PAUSE, FREEZE = GuestHold(kind=HoldKind.PAUSE), GuestHold(kind=HoldKind.FREEZE)
HOSTS = ("host-a", "host-b")
HOLD_S, GRACE_S = 4.0, 2.0


class FakeGuard:
    """A host's guard as a worker sees it: it keeps the lease by the rules, and notes what it was told."""

    def __init__(self) -> None:
        self.armed: list[str] = []
        self.seconds: float | None = None
        self.disarmed: list[str] = []
        self.lets_go: dict[str, str] = {}  # guests that it cannot lease, each with the earlier capture
        self.is_there = True
        self.stood = True
        self.lines_closed = 0
        self.writing = threading.Lock()  # guests that are left alone are told of by threads of their own

    def line(self, path: Path) -> FakeLine:
        assert path.name == "guard.sock"
        if not self.is_there:
            raise GuardError("The thaw guard does not answer.")
        return FakeLine(self, LeaseFiles(path.parent))


class FakeLine:
    def __init__(self, guard: FakeGuard, files: LeaseFiles) -> None:
        self._guard = guard
        self._files = files

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.lines_closed += 1

    def ping(self) -> None:
        if not self._guard.is_there:
            raise GuardError("The thaw guard did not answer.")

    def stands(self) -> bool:
        return self._guard.is_there

    def arm(self, capture_id: str, guests: Sequence[LeasedGuest], seconds: float) -> dict[str, str]:
        self.ping()
        assert capture_id == CAPTURE
        assert not self._guard.armed, "armed twice"
        refused = {
            one.guest_uuid: self._guard.lets_go[one.guest_uuid]
            for one in guests
            if one.guest_uuid in self._guard.lets_go
        }
        leased = tuple(guest for guest in guests if guest.guest_uuid not in refused)
        self._guard.armed = [guest.guest_uuid for guest in leased]
        self._guard.seconds = seconds
        boot, deadline_s = boot_id(), now_s() + seconds
        if leased:
            self._files.add(StoredLease(capture_id=capture_id, guests=leased, deadline_s=deadline_s, boot_id=boot))
        return refused

    def disarm(self, capture_id: str, guests: Sequence[str] | None = None) -> bool:
        assert capture_id == CAPTURE
        guests = self._guard.armed if guests is None else guests
        assert guests
        assert set(guests) <= set(self._guard.armed)
        with self._guard.writing:
            self._guard.disarmed += guests
            if self._files.all():  # the lease goes with its last guest
                retire(self._files, *guests)
        return self._guard.stood and self._guard.is_there


def retire(files: LeaseFiles, *guests: str) -> None:
    """Take guests out of the lease on disk, as the guard does that has seen them run for long enough."""
    (found,) = files.all()
    left = tuple(
        LeasedGuest(guest_uuid=one.guest_uuid, hold=one.hold) for one in found.guests if one.guest_uuid not in guests
    )
    if not left:
        files.remove(CAPTURE)
        return
    assert found.deadline_s is not None
    assert found.boot_id is not None
    files.add(StoredLease(capture_id=CAPTURE, guests=left, deadline_s=found.deadline_s, boot_id=found.boot_id))


def storage_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let storage that this machine does not have be what its path says; but what is at /gone/… does not tell."""

    def places(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> Places:
        with suppress(FileNotFoundError):
            return places_of(path, is_qcow2=is_qcow2, sys=sys)
        if path.startswith("/gone/"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return Places(frozenset({f"path {path}"}))

    monkeypatch.setattr(uses, "places_of", places)


class Site:
    """Hosts with two guests each, prepared and not yet held."""

    def __init__(
        self,
        directory: Path,
        settings: BusSettings,
        monkeypatch: pytest.MonkeyPatch,
        members: tuple[str, ...] = HOSTS,
    ) -> None:
        self.members = members
        self.guests = {host: [held_fake(10 * n + 1), held_fake(10 * n + 2)] for n, host in enumerate(members, 1)}
        self.guards = {host: FakeGuard() for host in members}
        self.fakes = {one.uuid: one for fakes in self.guests.values() for one in fakes}
        self.hosts = {host: host_of(directory / host, host, settings) for host in members}
        monkeypatch.setattr(step, "GuardLine", lambda path: self.guards[path.parent.name].line(path))
        monkeypatch.setattr(Hypervisor, "domain", lambda _self, uuid: self.domain(uuid))
        monkeypatch.setattr(Hypervisor, "domains", lambda _: [one.domain() for one in self.fakes.values()])
        monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
        give_each_guest_a_qemu(directory, monkeypatch)
        storage_by_name(monkeypatch)
        for host_id, host in self.hosts.items():
            prepare(host, self.guests[host_id])

    def domain(self, uuid: str) -> Domain:
        return self.fakes[uuid].domain()

    def order(self, host_id: str, hold: GuestHold = PAUSE, **changes: Any) -> HoldOrder:
        order = HoldOrder(
            capture_id=CAPTURE,
            epoch=1,
            host_id=host_id,
            not_after=datetime.now(UTC) + timedelta(hours=1),
            repository_id=REPOSITORY,
            members=len(self.members),
            guests=tuple(GuestToHold(guest_uuid=one.uuid, hold=hold) for one in self.guests[host_id]),
            muster_timeout_s=60,
            hold_timeout_s=HOLD_S,
            all_or_nothing=True,
        )
        return order.model_copy(update=changes)

    def hold(self, *, hold: GuestHold = PAUSE, **changes: Any) -> dict[str, HoldResult | Exception]:
        """What each host answers, side by side."""

        def one(host_id: str) -> HoldResult | Exception:
            try:
                return step.hold(self.hosts[host_id], self.order(host_id, hold, **changes))
            except Exception as error:  # noqa: BLE001  the test looks at it
                return error

        with ThreadPoolExecutor(len(self.members)) as pool:
            return dict(zip(self.members, pool.map(one, self.members), strict=True))

    def held_ones(self) -> list[str]:
        return [one.label for one in self.fakes.values() if one.paused or one.frozen]

    def journalled(self, host_id: str) -> tuple[list[str], list[str]]:
        """The guests that have a hold in the journal, and those of them that have been let go."""
        changes = self.hosts[host_id].journal.of(CAPTURE).changes()
        held = [change.guest_uuid for change in changes if isinstance(change, HoldChange)]
        return held, [change.guest_uuid for change in changes if isinstance(change, LetGoChange)]


def host_of(directory: Path, host_id: str, settings: BusSettings) -> Host:
    durable.make_directory(directory)
    return Host(
        settings=HostSettings(
            host_id=host_id, state_dir=directory, run_dir=directory, agent_timeout_s=1, guard_grace_s=GRACE_S
        ),
        bus=settings,
        repository=str(directory / "repository"),
        hypervisor=Hypervisor("test:///default"),
        redis=bus.connect(settings),
        journal=Journal(directory),
        claims=Claims(directory),
        paces=Paces(directory),
    )


def prepare(host: Host, fakes: Sequence[HeldFake]) -> None:
    for fake in fakes:
        host.claims.take(fake.uuid, CAPTURE)
    disk = PreparedDisk(
        target="vda",
        source="/disk.img",
        source_format="raw",
        size_bytes=1 << 20,
        kind=CaptureKind.FULL,
        full_reason="the first",
    )
    guests = tuple(
        PreparedGuest(guest_uuid=fake.uuid, name=fake.label, disks=(disk,), live_xml=fake.live_xml, filesystems=2)
        for fake in fakes
    )
    result = PrepareResult(capture_id=CAPTURE, host_id=host.host_id, guests=guests)
    host.journal.of(CAPTURE).store_result(Step.PREPARE, "", result.model_dump_json())


def give_each_guest_a_qemu(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the QEMU of each guest of each host."""

    def noted(_: Host, name: str, guest_uuid: str) -> QemuProcess:
        own = directory / name
        own.mkdir(exist_ok=True)
        return QemuProcess(name, guest_uuid, os.getpid(), os.geteuid(), os.getegid(), (), own)

    monkeypatch.setattr(Host, "qemu", noted)


def results(answers: dict[str, HoldResult | Exception]) -> list[HoldResult]:
    found = list(answers.values())
    for one in found:
        if isinstance(one, Exception):
            raise one
    return [one for one in found if isinstance(one, HoldResult)]


def proof_of(held: Sequence[HoldResult], members: tuple[str, ...] = HOSTS) -> Proof:
    released = next((one for one in held if one.release_us is not None), held[0])
    arrivals = [Arrival(host_id=one.host_id, redis_us=one.arrived_us) for one in held if one.arrived_us is not None]
    return Proof(
        epoch=1,
        members=members,
        arrivals=tuple(arrivals),
        release_us=released.release_us,
        release_arrivals=released.release_arrivals,
        hosts=tuple(one.proof for one in held if one.proof),
    )
