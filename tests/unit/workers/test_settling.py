"""No bitmap of ours stays without its checkpoint, whether the guest runs, is off or is gone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import libvirt
import pytest

from ops.qemu_nbd import serving
from workers.host import Host
from workers.hypervisor import bitmaps
from workers.hypervisor.bitmaps import ImageInUseError
from workers.hypervisor.checkpoint import checkpoint_name
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError, HypervisorError, HypervisorUnreachableError
from workers.hypervisor.fake_checkpoints import CheckpointedGuest as Guest
from workers.hypervisor.fake_checkpoints import FakeLibvirtError as LibvirtError
from workers.journal import AnyChange, BackupChange, ClaimChange, FreedChange, ReservationChange
from workers.steps.settling import remove_orphans, settle, settle_gone
from workers.steps.undo import undo_guest

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"
REPOSITORY = "01234567-89ab-4000-8000-000000000000"
OLDER, OURS = (checkpoint_name(REPOSITORY, capture_id) for capture_id in (f"{CAPTURE[:-1]}0", CAPTURE))
THEIRS = "virtnbdbackup.0"


def stored(path: Path, *names: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", os.fspath(path), "1M"], check=True)
    for name in names:
        subprocess.run(["qemu-img", "bitmap", "--add", "-f", "qcow2", os.fspath(path), name], check=True)
    return path


def changes_of(*images: Path, freed: bool = False) -> list[AnyChange]:
    found: list[AnyChange] = [
        ClaimChange(guest_uuid=GUEST),
        ReservationChange(guest_uuid=GUEST, guest="alpha", needed_bytes=1, targets=("vda",), images=images),
        change(),
    ]
    return [*found, FreedChange(guest_uuid=GUEST)] if freed else found


def change() -> BackupChange:
    return BackupChange(guest_uuid=GUEST, socket=Path("/run/one.sock"), checkpoint=OURS, repository_id=REPOSITORY)


def not_kept(guest: Guest, *images: Path, ended: bool = False, freed: bool = False) -> None:
    settle(guest, change(), changes_of(*images, freed=freed), sealed=False, ended=ended)


@pytest.fixture
def running(tmp_path: Path) -> Guest:
    return Guest(stored(tmp_path / "vda.qcow2"), checkpoints=[OURS], memory=[OURS, THEIRS])


@pytest.fixture
def off(tmp_path: Path) -> Guest:
    """QEMU has stored its bitmaps at its end."""
    return Guest(stored(tmp_path / "vda.qcow2", OURS, THEIRS), running=False, checkpoints=[OURS])


def test_of_a_running_guest_libvirt_deletes_both(running: Guest) -> None:
    not_kept(running)
    assert (running.checkpoints, running.memory) == ([], [THEIRS])


@pytest.mark.case("G6")
def test_of_a_guest_that_was_shut_down_neither_stays(off: Guest) -> None:
    not_kept(off)
    assert (off.checkpoints, bitmaps.in_image(off.image)) == ([], [THEIRS])


@pytest.mark.case("G6")
def test_the_image_is_the_one_that_was_prepared_also_when_the_definition_names_another(
    off: Guest, tmp_path: Path
) -> None:
    prepared = off.image
    off.image = stored(tmp_path / "another.qcow2")
    not_kept(off, prepared)
    assert (off.checkpoints, bitmaps.in_image(prepared)) == ([], [THEIRS])


@pytest.mark.case("G6")
def test_while_something_uses_the_image_the_checkpoint_stays_to_be_deleted_later(off: Guest, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "s", off.image, ["--persistent", "--format=qcow2"]),
        pytest.raises(ImageInUseError),
    ):
        not_kept(off)
    assert (off.checkpoints, bitmaps.in_image(off.image)) == ([OURS], [OURS, THEIRS])
    not_kept(off)
    assert (off.checkpoints, bitmaps.in_image(off.image)) == ([], [THEIRS])


@pytest.mark.case("G6")
def test_left_to_do_is_done_when_the_guest_runs_again(off: Guest) -> None:
    off.running, off.memory = True, [OURS, THEIRS]
    not_kept(off)
    assert (off.checkpoints, off.memory) == ([], [THEIRS])


@pytest.mark.case("G6")
def test_an_error_that_passes_leaves_no_bitmap(running: Guest) -> None:
    running.passing = ["cannot acquire state change lock"]
    not_kept(running)
    assert (running.checkpoints, running.memory) == ([], [THEIRS])


@pytest.mark.case("G6")
def test_a_bitmap_that_cannot_be_removed_keeps_its_checkpoint(running: Guest) -> None:
    running.passing, running.monitor_refuses = ["cannot acquire state change lock"], True
    with pytest.raises(HypervisorError, match="in use"):
        not_kept(running)
    assert (running.checkpoints, running.memory) == ([OURS], [OURS, THEIRS])


@pytest.mark.case("G6")
def test_a_libvirtd_that_does_not_answer_is_no_reason_to_forget(running: Guest) -> None:
    running.refusal = LibvirtError("broken pipe", libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    with pytest.raises(HypervisorUnreachableError):
        not_kept(running)
    assert (running.checkpoints, running.memory) == ([OURS], [OURS, THEIRS])


def test_one_whose_bitmap_is_gone_is_forgotten(running: Guest) -> None:
    """As after a QEMU that was killed: libvirt refuses, and there is nothing to remove."""
    running.passing, running.memory = ["bitmap not found in backing chain"], [THEIRS]
    not_kept(running)
    assert (running.checkpoints, running.memory) == ([], [THEIRS])


@pytest.mark.case("G6")
@pytest.mark.parametrize(("ended", "freed"), [(True, False), (False, True)])
def test_a_bitmap_that_libvirt_never_knew_goes_with_the_backup(running: Guest, *, ended: bool, freed: bool) -> None:
    running.checkpoints = []
    not_kept(running, ended=ended, freed=freed)
    assert running.memory == [THEIRS]


def test_a_capture_that_never_began_asks_qemu_nothing(running: Guest) -> None:
    """A guest whose monitor was used is marked as tainted."""
    running.checkpoints, running.monitor_refuses = [], True
    not_kept(running)
    assert running.memory == [OURS, THEIRS]


@pytest.mark.case("G6")
def test_a_bitmap_that_libvirt_has_forgotten_is_removed_from_the_image(off: Guest) -> None:
    off.checkpoints = []
    not_kept(off, off.image)
    assert bitmaps.in_image(off.image) == [THEIRS]


@pytest.mark.case("G6")
def test_a_transient_guest_leaves_no_bitmap_when_it_is_gone(
    host: Host, off: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Hypervisor, _uuid: str) -> Domain:
        raise GuestGoneError("no domain")

    journal = host.journal.of(CAPTURE)
    host.claims.take(GUEST, CAPTURE)
    for one in changes_of(off.image):
        journal.record(one)
    monkeypatch.setattr(Hypervisor, "domain", gone)
    assert undo_guest(host, journal, GUEST, sealed=False) == []
    assert bitmaps.in_image(off.image) == [THEIRS]
    assert host.claims.holder(GUEST) is None


@pytest.mark.case("G6")
def test_the_bitmap_of_a_guest_that_is_gone_stays_while_nobody_knows_whether_its_capture_was_sealed(
    host: Host, off: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository is away. Without its bitmap the guest's next capture would be a full one."""

    def gone(_: Hypervisor, _uuid: str) -> Domain:
        raise GuestGoneError("no domain")

    journal = host.journal.of(CAPTURE)
    host.claims.take(GUEST, CAPTURE)
    for one in changes_of(off.image):
        journal.record(one)
    monkeypatch.setattr(Hypervisor, "domain", gone)
    assert undo_guest(host, journal, GUEST, sealed=None) == []
    assert bitmaps.in_image(off.image) == [OURS, THEIRS]
    assert host.claims.holder(GUEST) == CAPTURE
    assert undo_guest(host, journal, GUEST, sealed=True) == []
    assert bitmaps.in_image(off.image) == [OURS, THEIRS]
    assert host.claims.holder(GUEST) is None


def test_a_gone_guest_whose_image_another_uses_holds_nobody_up(off: Guest, tmp_path: Path) -> None:
    with serving(tmp_path / "s", off.image, ["--persistent", "--format=qcow2"]):
        settle_gone(changes_of(off.image), sealed=False)
    assert bitmaps.in_image(off.image) == [OURS, THEIRS]


def test_a_sealed_capture_keeps_its_bitmap_wherever_the_guest_is(off: Guest) -> None:
    settle_gone(changes_of(off.image), sealed=True)
    settle(off, change(), changes_of(off.image), sealed=True, ended=False)
    assert (off.checkpoints, bitmaps.in_image(off.image)) == ([OURS], [OURS, THEIRS])


def test_sealed_the_older_ones_of_the_line_go(running: Guest) -> None:
    running.checkpoints, running.memory = [OLDER, OURS, THEIRS], [OLDER, OURS, THEIRS]
    settle(running, change(), changes_of(), sealed=True, ended=True)
    assert (running.checkpoints, running.memory) == ([OURS, THEIRS], [OURS, THEIRS])


def test_the_older_ones_of_a_guest_that_is_off_stay_until_it_runs_again(off: Guest) -> None:
    """Forgotten by libvirt alone, its bitmap would stay in the image and slow down writes for ever."""
    off.checkpoints = [OLDER, OURS]
    settle(off, change(), changes_of(), sealed=True, ended=False)
    assert off.checkpoints == [OLDER, OURS]
    off.running, off.memory = True, [OLDER, OURS, THEIRS]
    settle(off, change(), changes_of(), sealed=True, ended=False)
    assert (off.checkpoints, off.memory) == ([OURS], [OURS, THEIRS])


def test_older_ones_stay_where_the_new_one_is_not_on_the_guest(running: Guest) -> None:
    """It moved to another host meanwhile, without its checkpoints: what the others prove is still proven."""
    running.checkpoints = [OLDER]
    settle(running, change(), changes_of(), sealed=True, ended=True)
    assert running.checkpoints == [OLDER]


def test_qemu_is_asked_for_no_bitmap_that_libvirt_has_deleted(running: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest whose monitor was used is marked as tainted."""
    asked: list[str] = []
    monkeypatch.setattr(Guest, "monitor", lambda _self, command, **_: asked.append(command))
    not_kept(running, ended=True)
    assert (running.checkpoints, running.memory) == ([], [THEIRS])
    assert asked == []


def test_a_source_that_is_no_path_names_no_image_of_this_host(
    running: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk may have the name of a file that happens to lie where the worker was started."""
    stored(tmp_path / "pool", OLDER)
    monkeypatch.chdir(tmp_path)
    running.image, running.monitor_refuses = Path("pool"), True
    assert remove_orphans(running, running.disks()) == []


@pytest.mark.case("G6")
def test_orphans_of_migrations_go_before_the_next_capture_and_nothing_else(running: Guest, tmp_path: Path) -> None:
    running.image = stored(tmp_path / "moved.qcow2", OLDER, OURS, THEIRS)
    running.memory = [OLDER, OURS, THEIRS]
    assert remove_orphans(running, running.disks()) == [OLDER]
    assert running.memory == [OURS, THEIRS]


def test_without_orphans_qemu_is_asked_nothing(running: Guest, tmp_path: Path) -> None:
    running.image, running.monitor_refuses = stored(tmp_path / "more.qcow2", OURS, THEIRS), True
    assert remove_orphans(running, running.disks()) == []


def test_an_orphan_that_cannot_be_removed_costs_no_capture(running: Guest, tmp_path: Path) -> None:
    running.image, running.monitor_refuses = stored(tmp_path / "more.qcow2", OLDER), True
    running.memory = [OLDER]
    assert remove_orphans(running, running.disks()) == [OLDER]
    assert running.memory == [OLDER]
