"""What the tasks of a host work with, opened once a process and never before a fork."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import redis

from freezeframe import bus
from freezeframe.access import ConfiguredKey, expected_of
from freezeframe.repository import Repository
from freezeframe.repository.crypto import NO_KEY, KeySource
from freezeframe.repository.expected import ANYTHING, Expected
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.patience import Patience
from freezeframe.settings import BusSettings, HostSettings, RepositorySettings, load
from workers import durable, qemu_process
from workers.bounded import GuestCalls
from workers.claims import Claims
from workers.hypervisor.connection import Hypervisor
from workers.journal import Journal
from workers.orders_at_work import OrdersAtWork
from workers.pace import Paces
from workers.qemu_process import QemuProcess


@dataclass(frozen=True)
class Host:
    """One host, as one of its processes sees it."""

    settings: HostSettings
    bus: BusSettings
    repository: str
    hypervisor: Hypervisor
    redis: redis.Redis
    journal: Journal
    claims: Claims
    paces: Paces
    repository_key: KeySource = NO_KEY
    repository_expected: Expected = ANYTHING
    repository_deletes: bool = True
    calls: GuestCalls = field(default_factory=GuestCalls)  # for whatever may hang because of one guest
    orders_at_work: OrdersAtWork = field(default_factory=OrdersAtWork, compare=False)
    #: Captures and guests that left a host held, and that this process has let go (`workers/left_held.py`).
    let_go: set[tuple[str, str]] = field(default_factory=set, compare=False)

    @property
    def host_id(self) -> str:
        return self.settings.host_id

    def open_repository(self, patience: Patience | None = None) -> Repository:
        """Open the repository of the settings, with their patience if none is given. Raises what `Repository.open` raises."""
        store = open_store(self.repository, patience=patience, deletes=self.repository_deletes)
        return Repository.open_in(store, self.repository_key, self.repository_expected)

    def qemu(self, name: str, guest_uuid: str) -> QemuProcess:
        """Return the QEMU of a guest that runs here. Raises QemuUnknownError."""
        return qemu_process.find(self.settings.libvirt_run_dir, name, guest_uuid)

    def scratch_file(self, capture_id: str, guest_uuid: str, target: str) -> Path:
        return self.settings.scratch_dir / capture_id / f"{guest_uuid}.{target}.qcow2"


@functools.cache
def this_host() -> Host:
    """The host that this process runs on, with the Redis of the settings. Raises SettingsError."""
    return open_host(load(BusSettings))


def open_host(bus_settings: BusSettings) -> Host:
    """Return the host that this process runs on, with that Redis. Raises SettingsError."""
    settings, repository = load(HostSettings), load(RepositorySettings)
    for directory in (settings.state_dir, settings.run_dir):
        durable.make_directory(directory)
    durable.make_directory(settings.scratch_dir, durable.PASSABLE)
    return Host(
        settings=settings,
        bus=bus_settings,
        repository=repository.repository,
        hypervisor=Hypervisor(settings.libvirt_uri, settings.libvirt_run_dir),
        redis=bus.shared_client(bus_settings),
        journal=Journal(settings.state_dir),
        claims=Claims(settings.state_dir),
        paces=Paces(settings.state_dir),
        repository_key=ConfiguredKey.of(repository),
        repository_deletes=repository.repository_deletes,
        repository_expected=expected_of(repository),
    )
