"""Another guest that begins to write to a disk while it is read is found before the disk counts as stored (P2)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.contract.fault import Fault
from tests.unit.workers.read_site import CAPTURE, OTHER, Machine, guest, stored
from workers.export import ExportError
from workers.fitness import DiskUse
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import HypervisorUnreachableError
from workers.hypervisor.fake_guest import UUID, disk_xml
from workers.journal import GivenUpChange
from workers.refusal import SecondWriterError
from workers.scratch.errors import ScratchRunsOutError
from workers.steps import sole_writer

pytestmark = pytest.mark.case("P2")


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


def test_the_disk_that_was_read_is_looked_at_also_if_it_is_not_the_guest_s_first(
    host: Host, machine: Machine, device: Path, tmp_path: Path
) -> None:
    (tmp_path / "first").write_bytes(b"x")
    both = disk_xml("vda", str(tmp_path / "first")), disk_xml("vdb", str(device))
    machine.running[0].live_xml = guest(UUID, *both).live_xml
    machine.meanwhile = starts(machine, disk_xml("vdc", str(device)))
    with pytest.raises(SecondWriterError, match="disk vdc of the running guest beta"):
        stored(host, "vdb")


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


def test_another_guest_s_disk_is_not_taken_for_one_that_was_never_known(
    host: Host, machine: Machine, device: Path
) -> None:
    """Its guest has ended, and another runs on the same storage."""
    machine.away = HypervisorUnreachableError("libvirtd is away.")

    def failover() -> None:
        machine.away = None
        machine.running[:] = [guest(OTHER, disk_xml("vda", str(device)))]

    machine.meanwhile = failover
    assert "libvirt did not tell what the disk is" in stored(host).writers_unseen


def test_a_guest_whose_storage_does_not_tell_is_not_taken_for_no_writer(host: Host, machine: Machine) -> None:
    machine.meanwhile = starts(machine, disk_xml("vdc", "/gone/lun"))
    why = "disk vdc of guest beta: /gone/lun does not tell which storage it is"
    assert why in stored(host).writers_unseen


def test_one_that_only_reads_such_storage_is_in_nobody_s_way(host: Host, machine: Machine) -> None:
    machine.meanwhile = starts(machine, disk_xml("vdc", "/gone/lun", more="<readonly/>"))
    assert stored(host).writers_unseen == ""


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
