"""A host with directories of its own, libvirt's test driver and a real Redis."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from freezeframe import bus
from freezeframe.settings import BusSettings, HostSettings
from tests.unit.workers import read_site
from tests.unit.workers.guard_site import GuardInThread, until
from tests.unit.workers.hold_site import Site, storage_by_name
from tests.unit.workers.watched_host import Libvirt as WatchedLibvirt
from workers import durable, inventory
from workers.claims import Claims
from workers.guard import letting_go
from workers.guard.lease import LONGEST_INQUIRY_S, LeasedGuest
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.fake_guest import UUID, disk_xml
from workers.journal import BackupChange, ClaimChange, Journal
from workers.pace import Paces
from workers.qemu_process import QemuProcess
from workers.steps import leasing, source_failure


@pytest.fixture(autouse=True)
def no_other_qemus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have none of this machine's processes be a guest's QEMU: other tests start some at the same moment."""
    for module in (inventory, letting_go):
        monkeypatch.setattr(module, "running_qemus", dict)


@pytest.fixture
def host(tmp_path: Path, bus_settings: BusSettings) -> Iterator[Host]:
    durable.make_directory(tmp_path)
    made = Host(
        settings=HostSettings(
            host_id="host-a",
            state_dir=tmp_path,
            run_dir=tmp_path,
            scratch_dir=tmp_path / "scratch",
            libvirt_run_dir=tmp_path,
        ),
        bus=bus_settings,
        repository=str(tmp_path / "repository"),
        hypervisor=Hypervisor("test:///default"),
        redis=bus.connect(bus_settings),
        journal=Journal(tmp_path),
        claims=Claims(tmp_path),
        paces=Paces(tmp_path),
    )
    yield made
    made.redis.close()


@pytest.fixture
def every_guest_has_a_qemu(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever guest is asked for, this process is its QEMU."""

    def noted(asked: Host, name: str, guest_uuid: str) -> QemuProcess:
        assert asked.settings == host.settings
        directory = host.settings.libvirt_run_dir / name  # a short one: a socket is made in it
        directory.mkdir(exist_ok=True)
        groups = tuple(os.getgroups())
        return QemuProcess(name, guest_uuid, os.getpid(), os.geteuid(), os.getegid(), groups, directory)

    monkeypatch.setattr(Host, "qemu", noted)


class GuardWithoutLeases:
    """The line to a guard that has let go of every guest."""

    def __init__(self, path: Path) -> None:
        assert path.name == "guard.sock"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def inquire(self, guests: Sequence[LeasedGuest], seconds: float) -> dict[str, str]:
        assert guests
        assert 0 <= seconds <= LONGEST_INQUIRY_S
        return {}


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[GuardInThread]:
    gc.collect()  # a hold that failed is in a ring with its traceback, and libvirt's test driver lives as long
    one = GuardInThread(tmp_path)
    yield one
    with one.guard._changed:
        one.guard.ledger.kept.clear()  # it would look at its guests for ever
    until(lambda: not one.guard.ledger.looking)
    one.hypervisor.close()  # the guard serves for ever, and with it libvirt's test driver would remember its guests


@pytest.fixture
def no_earlier_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "GuardLine", GuardWithoutLeases)


@pytest.fixture
def site(tmp_path: Path, bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, bus_settings, monkeypatch)
    yield made
    for fake in made.fakes.values():
        fake.suspending.set()
        fake.beginning.set()
    for host in made.hosts.values():
        host.redis.close()


@pytest.fixture
def libvirt(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedLibvirt]:
    """Stands in for libvirt as the watcher of scratch files sees it."""
    stand_in = WatchedLibvirt(host)
    monkeypatch.setattr(Hypervisor, "domain", stand_in.domain)
    monkeypatch.setattr("workers.hypervisor.backup.end", stand_in.end)
    monkeypatch.setattr("workers.hypervisor.lost.is_lost", stand_in.is_lost)
    yield stand_in
    for event in stand_in.hung.values():
        event.set()


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, host: Host) -> SimpleNamespace:
    """A file system for scratch files with 1000 MiB free."""
    found = SimpleNamespace(free=1000 << 20)
    durable.make_directory(host.settings.scratch_dir)
    monkeypatch.setattr("shutil.disk_usage", lambda _: found)
    return found


@pytest.fixture
def device(tmp_path: Path) -> Path:
    found = tmp_path / "shared.raw"
    found.write_bytes(b"x")
    return found


@pytest.fixture
def machine(host: Host, device: Path, monkeypatch: pytest.MonkeyPatch) -> read_site.Machine:
    host.journal.of(read_site.CAPTURE).record(ClaimChange(guest_uuid=UUID))
    socket = Path("/var/lib/libvirt/qemu/domain-7-alpha/one.sock")
    change = BackupChange(guest_uuid=UUID, socket=socket, checkpoint=None, repository_id="r")
    host.journal.of(read_site.CAPTURE).record(change)
    made = read_site.Machine([read_site.guest(UUID, disk_xml("vda", str(device)), disk_xml("vdb", "/own"))])
    monkeypatch.setattr(Hypervisor, "domains", lambda _: made.domains())
    monkeypatch.setattr(Hypervisor, "domain", lambda _, uuid: made.domain(uuid))
    monkeypatch.setattr(source_failure, "read_disk", made.read)
    storage_by_name(monkeypatch)
    return made
