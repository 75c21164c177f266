"""Two hundred guests of one host, and twenty: what each costs in threads, connections and descriptors, counted at the height.

The numbers are of this process, as the kernel and Python have them. A connection to libvirt is made to cost what a real one
does, two descriptors [`workers/descriptors.py`]; libvirt's test driver has none.
"""

from __future__ import annotations

import gc
import os
import resource
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.order import GuestToHold, HoldOrder
from freezeframe.settings import BusSettings
from tests.unit.workers.guard_site import GuardInThread, paused, until
from tests.unit.workers.hold_site import (
    CAPTURE,
    FREEZE,
    PAUSE,
    REPOSITORY,
    FakeGuard,
    give_each_guest_a_qemu,
    host_of,
    prepare,
    storage_by_name,
)
from workers import bounded
from workers.bounded import GuestCalls
from workers.descriptors import raise_limit
from workers.guard import letting_go
from workers.guard.reading import FoundGuest
from workers.guard.table import SETTLE_S, Look
from workers.hypervisor.connection import IDLE
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.steps import held_guest, window
from workers.steps import hold as step

SIZES = (20, 200)
#: The cost besides the guests': Redis's connections, files that are open for a moment, the watching thread.
FEW = 8
#: Descriptors of one connection to libvirt.
OF_CONNECTION = 2
#: In a hold: two connections for each guest, and the guest's lock.
OF_HELD_GUEST = 2 * OF_CONNECTION + 1
LONG_S = 60.0


@dataclass(frozen=True)
class Cost:
    """The threads, descriptors and connections that this process has in use."""

    threads: int
    descriptors: int
    connections: int


@dataclass
class Meter:
    """Opens connections to libvirt, and counts what is in use."""

    open: Callable[[str], Any]
    connections: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)

    def opened(self, uri: str) -> Any:
        connection = Connection(self.open(uri))
        self.connections.add(connection)
        return connection

    def now(self) -> Cost:
        return Cost(threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), len(self.connections))

    def settled(self) -> Cost:
        """Return the cost without what only awaits Python's garbage collection."""
        gc.collect()
        return self.now()


class Connection:
    """A connection to libvirt, with as many descriptors as a real one to its daemon."""

    def __init__(self, real: Any) -> None:
        self._real = real
        for _ in range(OF_CONNECTION):
            weakref.finalize(self, os.close, os.eventfd(0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@dataclass
class Heights:
    """The cost at the moment at which all guests are within the same call: each call waits for the others."""

    meter: Meter
    guests: int
    seen: dict[str, Cost] = field(default_factory=dict)
    _together: dict[str, threading.Barrier] = field(default_factory=dict)

    def meet(self, what: str) -> None:
        def note() -> None:
            self.seen[what] = self.meter.now()

        self._together.setdefault(what, threading.Barrier(self.guests, note, LONG_S)).wait()

    def watch(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        """Make the first call on each guest wait for the first calls on all others."""
        real, met = getattr(owner, name), set[str]()

        def call(guest: Any, *arguments: Any) -> Any:
            if guest.uuid not in met:
                met.add(guest.uuid)
                self.meet(name)
            return real(guest, *arguments)

        monkeypatch.setattr(owner, name, call)


class Libvirtd:
    """The far end of every connection: guests that can be held."""

    def __init__(self, guests: int) -> None:
        self.fakes = {fake.uuid: fake for fake in map(held_fake, range(guests))}

    def open(self, uri: str) -> Libvirtd:
        assert uri == "test:///default"
        return self

    def isAlive(self) -> bool:  # noqa: N802  libvirt's name
        return True

    def setKeepAlive(self, interval_s: int, count: int) -> None:  # noqa: N802  libvirt's name
        assert interval_s > 0
        assert count > 0

    def lookupByUUIDString(self, guest_uuid: str) -> HeldFake:  # noqa: N802  libvirt's name
        return self.fakes[guest_uuid]

    def listAllDomains(self) -> list[HeldFake]:  # noqa: N802  libvirt's name
        return list(self.fakes.values())


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count what guests cost on a slow machine too: there 200 of them are ready, or let go, later than a hold would wait."""
    monkeypatch.setattr(held_guest, "READY_S", LONG_S)
    for bound in ("GIVE_UP_S", "LONGEST_GIVE_UP_S"):
        monkeypatch.setattr(window, bound, LONG_S)


@pytest.fixture(autouse=True)
def as_many_files_as_a_worker() -> Iterator[None]:
    """Raise the limit of this process as the workers do: 200 guests need as many descriptors as the usual limit allows."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raise_limit() > OF_HELD_GUEST * max(SIZES) + 512
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


@pytest.mark.parametrize("guests", SIZES)
@pytest.mark.parametrize("hold", [PAUSE, FREEZE], ids=lambda hold: str(hold.kind))
def test_a_guest_in_a_hold_costs_two_threads_two_connections_and_their_descriptors(
    guests: int, hold: Any, tmp_path: Path, bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread while it is held, and a second one at the most to let it go: the first may not have ended."""
    libvirtd, guard = Libvirtd(guests), FakeGuard()
    meter = Meter(libvirtd.open)
    monkeypatch.setattr(libvirt, "open", meter.opened)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    monkeypatch.setattr(step, "GuardLine", guard.line)
    give_each_guest_a_qemu(tmp_path, monkeypatch)
    storage_by_name(monkeypatch)
    heights = Heights(meter, guests)
    for name in ("suspend", "resume") if hold is PAUSE else ("_freeze",):
        heights.watch(monkeypatch, HeldFake, name)
    heights.watch(monkeypatch, HeldFake, "backupBegin")
    host = host_of(tmp_path / "host-a", "host-a", bus_settings)
    prepare(host, list(libvirtd.fakes.values()))
    order = HoldOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        repository_id=REPOSITORY,
        members=1,
        guests=tuple(GuestToHold(guest_uuid=uuid, hold=hold) for uuid in libvirtd.fakes),
        muster_timeout_s=60,
        hold_timeout_s=60,
        all_or_nothing=True,
    )
    before = meter.settled()
    result = step.hold(host, order)
    after = meter.settled()
    assert result.fault is None
    assert result.guest_faults == ()
    assert sorted(guard.disarmed) == sorted(libvirtd.fakes)
    assert len(heights.seen) == (3 if hold is PAUSE else 2)
    for name, height in heights.seen.items():
        threads = 2 * guests if name == "resume" else guests
        assert height.threads - before.threads <= threads + FEW, name
        assert 2 * guests <= height.connections <= 2 * guests + FEW, name
        assert height.descriptors - before.descriptors <= OF_HELD_GUEST * guests + FEW, name
    assert after.threads - before.threads <= min(2 * guests, bounded.IDLE_THREADS) + FEW
    assert after.connections <= IDLE
    assert after.descriptors - before.descriptors <= OF_CONNECTION * IDLE + FEW
    end_threads(host.calls)
    host.redis.close()


def end_threads(*pools: GuestCalls) -> None:
    """End the idle threads of these pools, which otherwise stay for the tests that follow in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded, "IDLE_THREADS", 0)
        for pool in pools:
            for ended in [pool.start("end", lambda: None) for _ in range(len(pool._idle))]:
                ended.result(LONG_S)


@pytest.fixture
def many(
    guard: GuardInThread, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], tuple[Meter, list[Domain]]]]:
    """Define guests in libvirt's test driver, paused, and count the connections that are opened from then on."""
    defined: list[Domain] = []
    meter = Meter(libvirt.open)

    def define(guests: int) -> tuple[Meter, list[Domain]]:
        for number in range(guests):
            xml = f"<domain type='test'><name>many-{number}</name><memory>1</memory><os><type>hvm</type></os></domain>"
            defined.append(guard.hypervisor.define(xml))
            defined[-1].start()
            defined[-1].pause()
        guard.hypervisor.close()  # idle ones were opened before the meter counted
        monkeypatch.setattr(libvirt, "open", meter.opened)
        return meter, defined

    yield define
    end_threads(guard.guard.watch.calls, guard.guard.watch.asks)
    for domain in defined:
        domain.handle.destroy()
        domain.handle.undefine()


@pytest.mark.parametrize("guests", SIZES)
def test_a_guest_that_the_guard_lets_go_costs_two_threads_and_one_connection(
    guests: int,
    guard: GuardInThread,
    many: Callable[[int], tuple[Meter, list[Domain]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One thread for the look, and one for what it asks of libvirt; fewer connections stay."""
    meter, domains = many(guests)
    heights = Heights(meter, guests)
    heights.watch(monkeypatch, Domain, "resume")
    guard.start()
    before = meter.settled()
    with guard.line() as line:
        line.arm(CAPTURE, paused(*(one.uuid for one in domains)), 60)
    until(lambda: all(one.state() == "running" for one in domains))
    retire(guard)
    after = meter.settled()
    height = heights.seen["resume"]
    assert height.threads - before.threads <= 2 * guests + FEW
    assert guests <= height.connections <= guests + FEW
    assert height.descriptors - before.descriptors <= OF_CONNECTION * guests + FEW
    assert after.threads - before.threads <= 2 * bounded.IDLE_THREADS + FEW
    assert after.connections <= IDLE
    assert after.descriptors - before.descriptors <= OF_CONNECTION * IDLE + FEW


@pytest.mark.parametrize("guests", SIZES)
def test_a_guest_whose_qemu_hangs_costs_the_guard_no_more_however_often_it_is_looked_at(
    guests: int,
    guard: GuardInThread,
    many: Callable[[int], tuple[Meter, list[Domain]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meter, domains = many(guests)
    heights, may_end, looks = Heights(meter, guests), threading.Event(), dict[str, int]()
    resume = Domain.resume

    def hang(domain: Domain) -> None:
        may_end.wait()
        resume(domain)

    def past_libvirt(guest: FoundGuest) -> Look:
        looks[guest.guest_uuid] = looks.get(guest.guest_uuid, 0) + 1
        return Look.NO_ANSWER

    def each_was_looked_at(times: int) -> bool:
        guard.forward(2.0)
        return len(looks) == guests and min(looks.values()) >= times

    monkeypatch.setattr(Domain, "resume", hang)
    heights.watch(monkeypatch, Domain, "resume")
    monkeypatch.setattr(letting_go, "_past_libvirt", past_libvirt)
    monkeypatch.setattr(letting_go, "LIBVIRT_S", 0.05)
    guard.start()
    before = meter.settled()
    with guard.line() as line:
        line.arm(CAPTURE, paused(*(one.uuid for one in domains)), 60)
    until(lambda: "resume" in heights.seen)
    until(lambda: each_was_looked_at(5))
    later = meter.now()
    may_end.set()
    retire(guard)
    assert all(one.state() == "running" for one in domains)
    for height in (heights.seen["resume"], later):
        assert height.threads - before.threads <= 2 * guests + FEW
        assert guests <= height.connections <= guests + FEW
        assert height.descriptors - before.descriptors <= OF_CONNECTION * guests + FEW


def retire(guard: GuardInThread) -> None:
    """Wait until the guard keeps no lease, and each thread of a look has come to its end."""

    def are_gone() -> bool:
        guard.forward(SETTLE_S)
        return not any(guard.leases.glob("*.json"))

    until(are_gone)
    for pool in (guard.guard.watch.calls, guard.guard.watch.asks):
        until(lambda pool=pool: len(pool._idle) == pool.threads)  # type: ignore[misc]
