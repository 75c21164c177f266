"""Another guest that begins to write to a disk while it is read is found before the disk counts as stored (P2)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import TransferResult
from freezeframe.contract.words import CaptureKind
from workers.export import ExportError
from workers.fitness import DiskUse
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError, HypervisorError, HypervisorUnreachableError
from workers.hypervisor.fake_guest import UUID, FakeGuest, disk_xml, domain_xml
from workers.journal import BackupChange, ClaimChange, GivenUpChange
from workers.scratch.errors import ScratchRunsOutError
from workers.steps import sole_writer, source_failure, table
from workers.steps.refusal import SecondWriterError

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER = "00000000-0000-4000-8000-00000000000b"

pytestmark = pytest.mark.case("P2")


def guest(uuid: str, *disks: str) -> FakeGuest:
    name = {UUID: "alpha", OTHER: "beta"}[uuid]
    return FakeGuest(domain_xml(*disks, name=name, uuid=uuid), uuid=uuid, label=name)


@dataclass
class Machine:
    """The guests that run on the host, and what happens while the disk is read."""

    running: list[FakeGuest]
    meanwhile: Callable[[], None] = lambda: None
    away: HypervisorError | None = None
    asked: list[str] = field(default_factory=list)

    def domains(self) -> list[Domain]:
        self.asked.append("all")
        if self.away:
            raise self.away
        return [Domain(one) for one in self.running]

    def domain(self, uuid: str) -> Domain:
        self.asked.append("one")
        if self.away:
            raise self.away
        for one in self.running:
            if one.uuid == uuid:
                return Domain(one)
        raise GuestGoneError("It is not here.")

    def read(self, host: Host, asked: TransferOrder) -> TransferResult:
        assert "all" not in self.asked  # it would not see who comes meanwhile
        self.meanwhile()
        return TransferResult(
            capture_id=asked.capture_id,
            host_id=host.host_id,
            guest_uuid=asked.guest_uuid,
            target=asked.target,
            index="0" * 64,
        )


@pytest.fixture
def device(tmp_path: Path) -> Path:
    found = tmp_path / "shared.raw"
    found.write_bytes(b"x")
    return found


@pytest.fixture
def machine(host: Host, device: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid=UUID))
    socket = Path("/var/lib/libvirt/qemu/domain-7-alpha/one.sock")
    change = BackupChange(guest_uuid=UUID, socket=socket, checkpoint=None, repository_id="r")
    host.journal.of(CAPTURE).record(change)
    made = Machine([guest(UUID, disk_xml("vda", str(device)), disk_xml("vdb", "/own"))])
    monkeypatch.setattr(Hypervisor, "domains", lambda _: made.domains())
    monkeypatch.setattr(Hypervisor, "domain", lambda _, uuid: made.domain(uuid))
    monkeypatch.setattr(source_failure, "read_disk", made.read)
    return made


def order(target: str = "vda") -> TransferOrder:
    return TransferOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        guest_uuid=UUID,
        guest_name="alpha",
        target=target,
        size_bytes=1,
        chunk_bytes=4096,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )


def stored(host: Host, target: str = "vda") -> TransferResult:
    return table.TRANSFER.do(host, order(target))


def starts(machine: Machine, *disks: str) -> Callable[[], None]:
    return lambda: machine.running.append(guest(OTHER, *disks))


def test_a_guest_that_starts_upon_the_disk_while_it_is_read_costs_the_disk(
    host: Host, machine: Machine, device: Path
) -> None:
    machine.meanwhile = starts(machine, disk_xml("vdc", str(device)))
    with pytest.raises(SecondWriterError) as raised:
        stored(host)
    told = Fault.of(raised.value)
    assert told.code == "disk-shared"
    assert "disk vdc of the running guest beta writes to the same storage" in told.message
    assert f"--skip-disk {UUID}:vda" in told.advice


def test_a_disk_that_a_running_guest_is_given_meanwhile_is_found_too(
    host: Host, machine: Machine, device: Path
) -> None:
    machine.running.append(guest(OTHER, disk_xml("vda", "/none")))

    def attach() -> None:
        machine.running[-1].live_xml = guest(OTHER, disk_xml("vda", "/none"), disk_xml("vdz", str(device))).live_xml

    machine.meanwhile = attach
    with pytest.raises(SecondWriterError, match="disk vdz of the running guest beta"):
        stored(host)


def test_so_is_the_same_guest_s_own_second_disk_there(host: Host, machine: Machine, device: Path) -> None:
    def attach() -> None:
        machine.running[0].live_xml = guest(UUID, disk_xml("vda", str(device)), disk_xml("vdz", str(device))).live_xml

    machine.meanwhile = attach
    with pytest.raises(SecondWriterError, match="disk vdz of the same guest"):
        stored(host)


def test_the_writer_is_found_although_the_disk_s_own_guest_stopped_when_it_was_read(
    host: Host, machine: Machine, device: Path
) -> None:
    def failover() -> None:
        machine.running[:] = [guest(OTHER, disk_xml("vda", str(device)))]

    machine.meanwhile = failover
    with pytest.raises(SecondWriterError, match="guest beta"):
        stored(host)


@pytest.mark.parametrize("more", ["<readonly/>", ""])
def test_a_guest_that_reads_it_or_has_another_disk_is_in_nobody_s_way(
    host: Host, machine: Machine, device: Path, tmp_path: Path, more: str
) -> None:
    (tmp_path / "another").write_bytes(b"x")
    path = device if more else tmp_path / "another"
    machine.meanwhile = starts(machine, disk_xml("vda", str(path), more=more))
    assert stored(host).writers_unseen == ""


def test_a_writer_to_one_disk_does_not_concern_the_guest_s_others(host: Host, machine: Machine, device: Path) -> None:
    """One that has been read before is whole; the other disks fail by themselves."""
    machine.meanwhile = starts(machine, disk_xml("vda", str(device)))
    assert stored(host, "vdb").index is not None


@pytest.mark.parametrize("at_begin", [True, False])
def test_a_libvirt_that_is_away_when_the_disk_is_read_takes_the_label_and_not_the_disk(
    host: Host,
    machine: Machine,
    at_begin: bool,  # noqa: FBT001
) -> None:
    error = HypervisorUnreachableError("libvirtd is away.")

    def goes() -> None:
        machine.away = error

    if at_begin:
        goes()
    machine.meanwhile = goes
    found = stored(host)
    assert found.index is not None
    assert found.writers_unseen == (
        "It could not be seen whether another guest wrote to disk vda of guest alpha while it was read: libvirtd is away. "
        "The guest's label is crash."
    )


def test_a_libvirt_that_was_away_before_is_asked_again(host: Host, machine: Machine, device: Path) -> None:
    machine.away = HypervisorUnreachableError("libvirtd is away.")

    def back() -> None:
        machine.away = None
        starts(machine, disk_xml("vda", str(device)))()

    machine.meanwhile = back
    with pytest.raises(SecondWriterError):
        stored(host)


def test_a_disk_that_was_never_known_is_not_called_unshared(host: Host, machine: Machine) -> None:
    machine.away = HypervisorUnreachableError("libvirtd is away.")

    def stops() -> None:
        machine.away = None
        machine.running.clear()

    machine.meanwhile = stops
    assert "libvirt did not tell what the disk is" in stored(host).writers_unseen


@pytest.mark.usefixtures("machine")
def test_a_libvirt_that_hangs_is_waited_for_no_longer_than_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()

    def hangs(_: Hypervisor) -> list[DiskUse]:
        assert back.wait(30)
        return []

    monkeypatch.setattr(sole_writer, "ALL_S", 0.05)
    monkeypatch.setattr(sole_writer, "disk_uses", hangs)
    assert "has not answered within 0.05 s" in stored(host).writers_unseen
    back.set()


@pytest.mark.parametrize(
    ("code", "kind"), [("disk-shared", SecondWriterError), ("scratch-runs-out", ScratchRunsOutError)]
)
@pytest.mark.parametrize("export_fails", [True, False])
def test_a_backup_that_was_given_up_when_its_last_byte_was_read_counts_as_given_up(
    host: Host,
    machine: Machine,
    code: str,
    kind: type[Exception],
    export_fails: bool,  # noqa: FBT001
) -> None:
    fault = Fault(code=code, message="The reason.", advice="What to do.")

    def given_up() -> None:
        host.journal.of(CAPTURE).record(GivenUpChange(guest_uuid=UUID, fault=fault))
        if export_fails:
            raise ExportError("closed")

    machine.meanwhile = given_up
    with pytest.raises(kind) as raised:
        stored(host)
    assert Fault.of(raised.value) == fault.model_copy(update={"exit_code": 1})  # type: ignore[arg-type]
