"""A transfer whose export failed says why: the watcher gave the guest up, or the guest stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import TransferResult
from freezeframe.contract.words import CaptureKind
from freezeframe.errors import FreezeframeError
from freezeframe.repository.errors import RepositoryNotReadable
from workers.export import ExportError
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.journal import BackupChange, ClaimChange, GivenUpChange
from workers.qemu_process import QemuUnknownError
from workers.scratch.errors import ScratchRunsOutError
from workers.steps import source_failure
from workers.steps.source_failure import GuestStoppedError, transfer

ValueT = TypeVar("ValueT")

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"
SOCKET = Path("/run/freezeframe/one.sock")
FULL = Fault(code="scratch-runs-out", message="Guest alpha rewrites too fast.", advice="Make room.")


@dataclass
class Guest:
    """What libvirt says of the guest, look by look; the last one stands."""

    host: Host
    active: list[bool] = field(default_factory=lambda: [True])
    start_ids: list[int] = field(default_factory=lambda: [7])
    sockets: list[Path | None] = field(default_factory=list)
    error: HypervisorError | None = None
    after: bool = False  # the reading has failed

    def domain(self, uuid: str) -> SimpleNamespace:
        assert uuid == GUEST
        if self.error and self.after:
            raise self.error
        return SimpleNamespace(
            how_stopped=lambda: None if _next(self.active) else "was shut down",
            start_id=lambda: _next(self.start_ids),
        )

    def socket(self, _: SimpleNamespace) -> Path | None:
        return _next(self.sockets) if self.sockets else SOCKET


def _next(values: list[ValueT]) -> ValueT:
    return values.pop(0) if len(values) > 1 else values[0]


@pytest.fixture
def guest(host: Host, monkeypatch: pytest.MonkeyPatch) -> Guest:
    found = Guest(host)
    change = BackupChange(guest_uuid=GUEST, socket=SOCKET, checkpoint=None, repository_id="r")
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid=GUEST))
    host.journal.of(CAPTURE).record(change)
    monkeypatch.setattr(Hypervisor, "domain", found.domain)
    monkeypatch.setattr("workers.hypervisor.backup.current_socket", found.socket)
    monkeypatch.setattr(source_failure, "LOOK_S", 0)
    return found


def order() -> TransferOrder:
    return TransferOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        guest_uuid=GUEST,
        guest_name="alpha",
        target="vda",
        size_bytes=1,
        chunk_bytes=4096,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )


def reading(monkeypatch: pytest.MonkeyPatch, guest: Guest, error: Exception, meanwhile: Callable[[], None]) -> None:
    def read(_: Host, __: TransferOrder) -> TransferResult:
        meanwhile()
        guest.after = True
        raise error

    monkeypatch.setattr(source_failure, "read_disk", read)


def give_up(host: Host) -> None:
    host.journal.of(CAPTURE).record(GivenUpChange(guest_uuid=GUEST, fault=FULL))


@pytest.mark.case("G5")
def test_a_guest_that_was_given_up_is_not_read(host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(monkeypatch, guest, AssertionError("it was read"), lambda: None)
    give_up(host)
    with pytest.raises(ScratchRunsOutError) as raised:
        transfer(host, order())
    assert (raised.value.message, raised.value.hint) == (FULL.message, FULL.advice)


@pytest.mark.case("G5")
def test_an_export_that_the_watcher_ended_fails_with_its_reason(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(monkeypatch, guest, ExportError("the connection was closed"), lambda: give_up(host))
    with pytest.raises(ScratchRunsOutError, match="rewrites too fast"):
        transfer(host, order())


@pytest.mark.case("G6")
@pytest.mark.parametrize("error", [ExportError("closed"), QemuUnknownError("libvirt has no note of the guest's QEMU")])
@pytest.mark.parametrize("looks", [[False], [True, True, False]])
def test_a_guest_that_is_shut_down_by_its_user_is_told_as_such(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch, looks: list[bool], error: FreezeframeError
) -> None:
    """QEMU closes its exports first, so libvirt may call the guest running for a while."""
    guest.active = list(looks)
    reading(monkeypatch, guest, error, lambda: None)
    with pytest.raises(GuestStoppedError, match="Guest alpha was shut down while disk vda was read"):
        transfer(host, order())


@pytest.mark.case("G6")
def test_a_guest_that_ran_again_before_libvirt_was_asked_is_told_as_such(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.start_ids = [7, 8]
    guest.sockets = [None]
    reading(monkeypatch, guest, ExportError("closed"), lambda: None)
    with pytest.raises(GuestStoppedError, match="was stopped and started again"):
        transfer(host, order())


@pytest.mark.case("G6")
def test_a_guest_that_was_started_again_before_its_transfer_began_is_told_as_such(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transfer waited in the queue; the socket of its backup tells which start of the guest it was."""
    guest.start_ids = [8]
    guest.sockets = [None]
    socket = Path("/var/lib/libvirt/qemu/domain-7-alpha/one.sock")
    change = BackupChange(guest_uuid=GUEST, socket=socket, checkpoint=None, repository_id="r")
    host.journal.of(CAPTURE).record(change)
    reading(monkeypatch, guest, ExportError("no such file"), lambda: None)
    with pytest.raises(GuestStoppedError, match="was stopped and started again"):
        transfer(host, order())


@pytest.mark.case("G6")
def test_a_transient_guest_is_gone(host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    guest.error = GuestGoneError("no domain")
    reading(monkeypatch, guest, ExportError("closed"), lambda: None)
    with pytest.raises(GuestStoppedError, match="is gone from the host"):
        transfer(host, order())


def test_a_backup_that_others_ended_is_told_as_the_export_told(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_failure, "AFTER_BACKUP_S", -1)
    guest.sockets = [None]
    reading(monkeypatch, guest, ExportError("closed"), lambda: None)
    with pytest.raises(ExportError, match="closed"):
        transfer(host, order())


def test_a_libvirt_that_does_not_answer_hides_no_cause(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_failure, "NOTICE_S", 0.1)
    guest.error = HypervisorError("away")
    reading(monkeypatch, guest, ExportError("closed"), lambda: None)
    with pytest.raises(ExportError, match="closed"):
        transfer(host, order())


def test_a_repository_s_trouble_is_its_own(host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    guest.active = [False]
    reading(monkeypatch, guest, RepositoryNotReadable("full"), lambda: None)
    with pytest.raises(RepositoryNotReadable):
        transfer(host, order())


@dataclass
class Clock:
    """In place of the module `time`: moves only when somebody sleeps."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(source_failure, "time", made)
    monkeypatch.setattr(source_failure, "LOOK_S", 0.5)
    return made


@pytest.mark.case("G6")
@pytest.mark.parametrize(
    ("sockets", "looked_s"),
    [([SOCKET], source_failure.NOTICE_S), ([None], source_failure.AFTER_BACKUP_S), ([SOCKET] * 6 + [None], 5.0)],
    ids=["libvirt still tells of the backup", "of none", "of none after a while"],
)
def test_a_guest_that_runs_on_is_looked_at_for_a_bounded_time(
    host: Host,
    guest: Guest,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    sockets: list[Path | None],
    looked_s: float,
) -> None:
    guest.sockets = list(sockets)
    reading(monkeypatch, guest, ExportError("closed"), lambda: None)
    with pytest.raises(ExportError, match="closed"):
        transfer(host, order())
    assert clock.now - 1000.0 == looked_s + 0.5  # the look after the deadline is the last


@pytest.mark.case("G6")
def test_a_guest_that_runs_without_its_backup_may_be_on_its_way_out(
    host: Host, guest: Guest, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU ended the backup first; that it was the guest's own shutdown is known a moment later."""
    guest.sockets = [None]
    guest.active = [True, True, True, False]
    reading(monkeypatch, guest, ExportError("closed"), lambda: None)
    with pytest.raises(GuestStoppedError, match="was shut down"):
        transfer(host, order())
    assert clock.now - 1000.0 < source_failure.AFTER_BACKUP_S


@pytest.mark.case("G6")
@pytest.mark.parametrize("ids", [[-1, 8], [7, -1]], ids=["not known before", "not known after"])
def test_a_start_that_is_not_known_is_no_other_start(
    host: Host, guest: Guest, clock: Clock, monkeypatch: pytest.MonkeyPatch, ids: list[int]
) -> None:
    """The number is -1 while a guest does not run."""
    guest.start_ids = ids
    guest.sockets = [None]
    reading(monkeypatch, guest, ExportError("closed"), lambda: None)
    with pytest.raises(ExportError, match="closed"):
        transfer(host, order())
