"""One guest prepared: the facts that libvirt and the agent tell become decisions, and a refusal takes no guest along."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import CaptureKind, HoldKind, Method
from freezeframe.naming import NamedGuest
from freezeframe.repository.header import IndexHeader
from ops.fleet.made_up import MadeUp
from tests.scale.monitored import shape
from tests.unit.orders import prepare_order
from workers import durable
from workers.fitness import size_hindrance
from workers.host import Host
from workers.hypervisor import checkpoint
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_guest import UUID, FakeGuest, disk_xml, domain_xml, libvirt_error
from workers.hypervisor.fake_held_guest import no_answer
from workers.hypervisor.fake_keeper import FakeKeeper, no_keeper
from workers.hypervisor.loan import Loan
from workers.qemu_process import QemuProcess
from workers.refusal import GuestFrozenError
from workers.steps import prepare
from workers.steps.refusing import refuse_shared, uses_here

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ROOT = ["/", "vda1", "ext4", ["vda"]]

Prepare = Callable[..., PreparedGuest]


@pytest.fixture
def prepared(
    host: Host, monkeypatch: pytest.MonkeyPatch, every_guest_has_a_qemu: None, no_earlier_leases: None
) -> Prepare:
    """Prepare one fake guest on a host that has it."""
    durable.make_directory(host.settings.scratch_dir)

    def attempt(
        guest: FakeGuest, hold: HoldKind = HoldKind.FREEZE, *, stored_encrypted: bool = False, **plan: Any
    ) -> PreparedGuest:
        def find(_: Hypervisor, guest_uuid: str) -> Domain:
            assert guest_uuid == guest.uuid
            return Domain(guest)

        def ask(handle: FakeGuest, command: str, timeout_s: int, flags: int) -> str:
            assert flags == 0
            return handle.agent_command(command, timeout_s)

        monkeypatch.setattr(Hypervisor, "domain", find)
        monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", ask)
        wanted = GuestPlan(guest_uuid=guest.uuid, name="alpha", hold=GuestHold(kind=hold), **plan)
        order = PrepareOrder(
            capture_id=CAPTURE,
            epoch=1,
            host_id="host-a",
            not_after=datetime.now(UTC) + timedelta(minutes=1),
            method=Method.BACKUP_PULL,
            repository_id="6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e",
            chunk_bytes=4096,
            guests=(wanted,),
        )
        return prepare._prepare_guest(host, order, host.journal.of(CAPTURE), wanted, stored_encrypted=stored_encrypted)

    return attempt


def two_disks(**more: Any) -> FakeGuest:
    return FakeGuest(domain_xml(disk_xml("vda", "/images/a"), disk_xml("vdb", "/images/b")), **more)


@pytest.mark.case("P1")
def test_a_raw_database_beside_a_frozen_root_is_named_in_the_result(prepared: Prepare) -> None:
    made = prepared(two_disks(filesystems=[ROOT]))
    assert made.fault is None
    assert (made.moving_disks, made.filesystems) == (("vdb",), 1)
    assert "Disk vdb of guest alpha" in made.warnings[0]
    assert f"--guest-hold {UUID}:freeze-pause" in made.warnings[0]


@pytest.mark.case("P1")
def test_with_a_filesystem_on_each_disk_nothing_moves(prepared: Prepare) -> None:
    made = prepared(two_disks(filesystems=[ROOT, ["/srv", "vdb", "xfs", ["vdb"]]]))
    assert (made.moving_disks, made.filesystems, made.warnings) == ((), 2, ())


def test_a_fleet_tells_of_a_made_up_guest_what_is_told_of_a_prepared_one(prepared: Prepare) -> None:
    real = prepared(two_disks(filesystems=[ROOT, ["/srv", "vdb", "xfs", ["vdb"]]]))
    made_up = MadeUp(1, 1, 2)
    [guest] = made_up.uuids(made_up.host_ids[0])
    plan = GuestPlan(guest_uuid=guest, name="alpha", hold=GuestHold(kind=HoldKind.FREEZE))
    told, ours = shape(real), shape(made_up.prepared(plan, prepare_order()))
    assert ours.keys() - told.keys() == {"expected_hold_ms"}  # as of a guest that was held before
    assert told.keys() <= ours.keys()
    [real_disk], [our_disk] = told["disks"], ours["disks"]
    assert our_disk.keys() ^ real_disk.keys() == {"checkpoint", "identity", "readonly"}  # of an image that is nowhere


@pytest.mark.case("P1")
@pytest.mark.parametrize("known", [True, False])
def test_an_agent_that_may_not_list_filesystems_proves_nothing(prepared: Prepare, known: bool) -> None:  # noqa: FBT001
    guest = two_disks(filesystems=[ROOT])
    guest.commands["guest-get-fsinfo"] = False
    if not known:
        guest.commands = {"guest-get-fsinfo": False}  # an answer without the rest, which no agent gives
        guest.agent_command = _without_info  # type: ignore[method-assign]
    assert prepared(guest).moving_disks == ("vda", "vdb")


@pytest.mark.case("P1")
@pytest.mark.parametrize("known", [True, False])
def test_an_agent_that_cannot_list_partitions_proves_nothing(prepared: Prepare, known: bool) -> None:  # noqa: FBT001
    """From before QEMU 5.2, or built without libudev: it does not know the command, or answers with an error."""
    guest = two_disks(filesystems=[ROOT, ["/srv", "vdb", "xfs", ["vdb"]]])
    if known:
        guest.commands["guest-get-disks"] = False
    else:
        guest.agent_command = _without_info  # type: ignore[method-assign]
        guest.commands = {"guest-get-fsinfo": True, "guest-get-disks": False}
    made = prepared(guest)
    assert made.moving_disks == ("vda", "vdb")
    assert "guest-get-disks" in made.warnings[0]
    assert prepared(guest, HoldKind.FREEZE_PAUSE).moving_disks == ()


@pytest.mark.case("P1")
def test_a_partition_without_a_filesystem_is_named_in_the_result(prepared: Prepare) -> None:
    guest = two_disks(filesystems=[ROOT, ["/srv", "vdb", "xfs", ["vdb"]]])
    guest.loose = ["vda2"]
    made = prepared(guest)
    assert made.moving_disks == ("vda",)
    assert "/dev/vda2" in made.warnings[0]
    assert f"--guest-hold {UUID}:freeze-pause" in made.warnings[0]


def _without_info(command: str, timeout_s: int) -> str:
    if "guest-info" in command:
        return '{"return": {"version": "0.1"}}'
    return FakeGuest("").agent_command(command, timeout_s)


@pytest.mark.case("P1")
def test_freeze_pause_keeps_the_raw_disk_still(prepared: Prepare) -> None:
    assert prepared(two_disks(filesystems=[ROOT]), HoldKind.FREEZE_PAUSE).moving_disks == ()


@pytest.mark.case("G3")
def test_a_blocked_freeze_is_refused_in_prepare_by_the_command_s_name(prepared: Prepare) -> None:
    guest = two_disks(filesystems=[ROOT])
    guest.commands["guest-fsfreeze-freeze"] = False
    fault = prepared(guest).fault
    assert fault is not None
    assert (fault.code, fault.guest) == ("agent-command-blocked", "alpha")
    assert "guest-fsfreeze-freeze" in fault.message
    assert prepared(guest, HoldKind.PAUSE).fault is None


@pytest.mark.case("G3")
@pytest.mark.parametrize("silent", ["guest-info", "guest-fsfreeze-status"])
def test_a_guest_whose_agent_does_not_answer_is_refused_before_it_is_held(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    guest = two_disks(filesystems=[ROOT])
    ask = guest.agent_command

    def answers(command: str, timeout_s: int) -> str:
        if silent in command:
            raise no_answer()
        return ask(command, timeout_s)

    monkeypatch.setattr(guest, "agent_command", answers)
    fault = prepared(guest).fault
    assert fault is not None
    assert (fault.code, fault.guest) == ("no-agent", "alpha")
    assert f"--guest-hold {UUID}:pause" in fault.advice
    assert prepared(guest, HoldKind.PAUSE).fault is None


@pytest.mark.case("P4")
def test_a_frozen_guest_is_told_as_frozen_although_its_agent_lists_most_commands_as_disabled(prepared: Prepare) -> None:
    guest = two_disks(filesystems=[ROOT])
    guest.status = "frozen"
    guest.commands.update({"guest-fsfreeze-freeze": False, "guest-fsfreeze-freeze-list": False})
    fault = prepared(guest).fault
    assert fault is not None
    assert fault.code == "guest-frozen"


@pytest.mark.case("P2")
def test_a_disk_that_the_guest_cannot_write_to_is_told_as_such_to_the_orchestrator(prepared: Prepare) -> None:
    guest = FakeGuest(domain_xml(disk_xml("vda", "/a"), disk_xml("vdb", "/b", more="<readonly/>")), filesystems=[ROOT])
    assert {disk.target: disk.readonly for disk in prepared(guest).disks} == {"vda": False, "vdb": True}


@pytest.mark.case("P2")
def test_a_shareable_disk_is_refused_in_prepare(prepared: Prepare) -> None:
    guest = FakeGuest(domain_xml(disk_xml("vda", "/a"), disk_xml("vds", "/s", more="<shareable/>")), filesystems=[ROOT])
    fault = prepared(guest).fault
    assert fault is not None
    assert "Disk vds of guest alpha" in fault.message
    assert f"--skip-disk {UUID}:vds" in fault.advice
    assert prepared(guest, skip=("vds",)).fault is None


@pytest.mark.case("P2")
def test_a_lun_that_is_passed_through_is_refused_in_prepare_and_told_where_it_is_left_out(prepared: Prepare) -> None:
    lun = (
        "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host99'/>"
        "<address bus='0' target='0' unit='0'/></source><alias name='hostdev0'/></hostdev>"
    )
    share = "<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem>"
    guest = FakeGuest(domain_xml(disk_xml("vda", "/a"), lun, share), filesystems=[ROOT, ["/db", "sda", "xfs", [None]]])
    fault = prepared(guest).fault
    assert fault is not None
    assert "Device hostdev0 of guest alpha cannot be captured" in fault.message
    assert f"--skip-disk {UUID}:hostdev0" in fault.advice
    left_out = prepared(guest, skip=("hostdev0",))
    assert left_out.fault is None
    assert [disk.target for disk in left_out.disks] == ["vda"]
    assert [(one.target, one.reason) for one in left_out.skipped] == [("hostdev0", "the caller left it out")]
    assert ["directory /srv" in warning for warning in left_out.warnings] == [True]


@pytest.mark.case("P2")
def test_a_source_under_two_running_guests_is_refused_in_prepare_and_undone(
    prepared: Prepare, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = two_disks(filesystems=[ROOT, ["/srv", "vdb", "xfs", ["vdb"]]])
    made = prepared(guest)
    beta = FakeGuest(domain_xml(disk_xml("vdx", "/images/b")), uuid=UUID[:-1] + "b", label="beta")
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [Domain(guest), Domain(beta)])
    (refused,) = refuse_shared(host, host.journal.of(CAPTURE), [made], uses_here(host, [made]))
    assert refused.fault is not None
    assert "Disk vdb of guest alpha cannot be captured: disk vdx of the running guest beta" in refused.fault.message
    assert f"--skip-disk {UUID}:vdb" in refused.fault.advice
    assert host.claims.holder(UUID) is None
    left_out = prepared(guest, skip=("vdb",))
    assert refuse_shared(host, host.journal.of(CAPTURE), [left_out], uses_here(host, [left_out])) == [left_out]


def test_a_guest_is_in_hand_of_its_capture_when_it_is_prepared(prepared: Prepare, host: Host) -> None:
    assert prepared(two_disks(filesystems=[ROOT])).fault is None
    assert host.claims.holder(UUID) == CAPTURE


def test_a_guest_that_another_capture_has_is_refused_and_stays_with_that_one(prepared: Prepare, host: Host) -> None:
    """It may be held or read at this moment; undoing what was prepared here must not touch that."""
    other = f"{CAPTURE[:-1]}B"
    host.claims.take(UUID, other)
    guest = two_disks(filesystems=[ROOT])
    fault = prepared(guest).fault
    assert fault is not None
    assert (fault.code, fault.guest) == ("guest-claimed", "alpha")
    assert host.claims.holder(UUID) == other


@pytest.mark.parametrize(
    "trouble",
    [OSError(28, "No space left on device"), subprocess.TimeoutExpired("qemu-img", 60), FileNotFoundError("qemu-img")],
)
def test_trouble_with_one_guest_is_that_guest_s_fault_and_no_other_s(
    prepared: Prepare, host: Host, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise trouble

    monkeypatch.setattr(prepare, "make_files", fail)
    fault = prepared(two_disks(filesystems=[ROOT])).fault
    assert fault is not None
    assert (fault.code, fault.guest, fault.host) == ("guest-trouble", "alpha", "host-a")
    assert str(trouble) in fault.message
    assert host.claims.holder(UUID) is None


@pytest.mark.case("P3")
def test_an_encrypted_disk_is_refused_in_prepare_unless_it_was_agreed_to(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(Hypervisor, "has_secret", lambda _self, secret_id: secret_id in kept)
    monkeypatch.setattr(Hypervisor, "keep_secret", lambda _self, secret_id, _value, _purpose: kept.append(secret_id))
    luks = "<disk type='file' device='disk'><source file='/l'><encryption format='luks'/></source><target dev='vde'/></disk>"
    guest = FakeGuest(domain_xml(disk_xml("vda", "/a"), luks), filesystems=[["/", "vda1", "ext4", ["vda", "vde"]]])
    fault = prepared(guest).fault
    assert fault is not None
    assert (fault.code, fault.guest) == ("disk-encrypted", "alpha")
    assert f"--decrypt-disk {UUID}:vde" in fault.advice
    made = prepared(guest, decrypt=("vde",))
    assert made.fault is None
    assert made.warnings == ("Disk vde of guest alpha is encrypted (luks) and was captured decrypted, as agreed.",)
    assert [disk.scratch_secret for disk in made.disks] == [None, *kept]
    assert len(kept) == 1


@pytest.mark.case("P3", "G1")
def test_a_guest_whose_passphrase_nobody_keeps_is_refused_alone_with_the_remedy(
    prepared: Prepare, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = FakeKeeper(refusal=no_keeper())
    monkeypatch.setattr(Hypervisor, "lend", lambda _: Loan(away))
    luks = "<disk type='file' device='disk'><source file='/l'><encryption format='luks'/></source><target dev='vde'/></disk>"
    guest = FakeGuest(domain_xml(disk_xml("vda", "/a"), luks), filesystems=[["/", "vda1", "ext4", ["vda", "vde"]]])
    fault = prepared(guest, decrypt=("vde",)).fault
    assert fault is not None
    assert (fault.code, fault.guest, fault.host) == ("passphrases-unavailable", "alpha", "host-a")
    assert "virtsecretd" in fault.message
    assert "systemctl start virtsecretd.socket" in fault.advice
    assert host.claims.holder(UUID) is None  # it can be captured without that disk at once
    assert prepared(guest, skip=("vde",)).fault is None


@pytest.mark.case("P3")
def test_into_an_encrypted_repository_an_encrypted_disk_goes_without_a_question(
    prepared: Prepare, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hypervisor, "lend", lambda _: Loan(FakeKeeper()))
    luks = "<disk type='file' device='disk'><source file='/l'><encryption format='luks'/></source><target dev='vda'/></disk>"
    made = prepared(FakeGuest(domain_xml(luks), filesystems=[ROOT]), stored_encrypted=True)
    assert made.fault is None
    assert made.warnings == (
        "Disk vda of guest alpha is encrypted (luks) and was captured decrypted, into a repository that is encrypted itself.",
    )


@pytest.mark.case("P6")
@pytest.mark.parametrize(("state", "code"), [(3, "guest-paused"), (6, "guest-crashed"), (7, "guest-suspended")])
def test_a_guest_that_stands_is_refused_with_its_state(prepared: Prepare, state: int, code: str) -> None:
    fault = prepared(two_disks(filesystems=[ROOT], state_code=state)).fault
    assert fault is not None
    assert fault.code == code
    assert prepared(two_disks(state_code=state), HoldKind.NONE).fault is None


@pytest.mark.case("P5", "G8")
def test_the_running_definition_and_the_autostart_are_told_beside_the_stored_one(prepared: Prepare) -> None:
    stored = domain_xml(disk_xml("vda", "/images/a"))
    made = prepared(two_disks(filesystems=[ROOT], stored_xml=stored, starts_with_host=True))
    assert (made.domain_xml, made.autostart) == (stored, True)
    assert "/images/b" in made.live_xml


@pytest.mark.case("G2")
def test_a_qcow2_of_version_2_is_captured_in_full_without_a_checkpoint(prepared: Prepare, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"QFI\xfb\0\0\0\x02" + bytes(96))
    new.write_bytes(b"QFI\xfb\0\0\0\x03" + bytes(96))
    guest = FakeGuest(
        domain_xml(disk_xml("vda", str(old), driver="qcow2"), disk_xml("vdb", str(new), driver="qcow2")),
        filesystems=[ROOT],
    )
    by_target = {disk.target: disk for disk in prepared(guest).disks}
    assert by_target["vda"].checkpoint is None
    assert "qemu-img amend" in (by_target["vda"].full_reason or "")
    assert by_target["vdb"].checkpoint is not None


@pytest.mark.case("G2")
@pytest.mark.parametrize("found", [True, False])
def test_a_volume_of_a_pool_records_its_changes_as_a_file_does(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, found: bool
) -> None:
    image = tmp_path / "web.qcow2"
    image.write_bytes(b"QFI\xfb\0\0\0\x03" + bytes(96))

    def volume_path(_: Domain, pool: str, volume: str) -> str:
        assert (pool, volume) == ("default", "web.qcow2")
        if not found:
            raise HypervisorError("Looking for volume web.qcow2 of pool default failed.")
        return str(image)

    monkeypatch.setattr(Domain, "volume_path", volume_path)
    volume = disk_xml("vda", "x", driver="qcow2").replace("type='file'", "type='volume'")
    volume = volume.replace("file='x'", "pool='default' volume='web.qcow2'")
    (disk,) = prepared(FakeGuest(domain_xml(volume), filesystems=[ROOT])).disks
    assert (disk.checkpoint is not None, disk.source) == (found, str(image) if found else "default/web.qcow2")
    assert ("cannot be read from this host" in (disk.full_reason or "")) != found


@pytest.mark.case("I2", "I3")
def test_each_disk_is_built_upon_the_capture_of_this_very_disk_and_says_which_it_is(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vda and vdb have exchanged their images; vdc is another image than it was."""
    images = [tmp_path / name for name in ("a", "b", "c")]
    for image in images:
        image.write_bytes(b"QFI\xfb\0\0\0\x03" + bytes(96))
    targets = ["vda", "vdb", "vdc"]

    def guest(*order: int) -> FakeGuest:
        disks = [disk_xml(at, str(images[one]), driver="qcow2") for at, one in zip(targets, order, strict=True)]
        return FakeGuest(domain_xml(*disks))

    before = prepared(guest(0, 1, 2), HoldKind.NONE).disks
    assert all(disk.identity for disk in before)
    size = before[0].size_bytes
    usual = {"capture_id": "01K99999999999999999999999", "checkpoint": "cp", "size_bytes": size, "chunk_bytes": 4096}
    parents = [
        {"target": disk.target, "parent": {**usual, "index": digit * 64, "identity": disk.identity}}
        for disk, digit in zip(before, "123", strict=True)
    ]
    proven: list[str] = []
    monkeypatch.setattr(checkpoint, "chain_fault", lambda _domain, name, target: proven.append(f"{name} {target}"))
    (tmp_path / "new").write_bytes(images[2].read_bytes())
    (tmp_path / "new").replace(images[2])
    vda, vdb, vdc = prepared(guest(1, 0, 2), HoldKind.NONE, parents=parents).disks
    assert (vda.parent_index, vdb.parent_index, vdc.parent_index) == ("2" * 64, "1" * 64, None)
    assert proven == ["cp vda", "cp vdb"]  # the bitmap chain of each where it is plugged in now
    named = [(one.parent_capture_id, one.parent_checkpoint) for one in (vda, vdb, vdc)]
    assert named == [(usual["capture_id"], "cp")] * 2 + [(None, None)]  # what the transfer checks, and what is marked
    assert "it is not the disk that capture 01K99999999999999999999999 read as vdc" in (vdc.full_reason or "")


@pytest.mark.case("G6")
def test_a_guest_with_a_backup_that_libvirt_has_lost_is_told_as_such(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libvirt says of it is "backup job data missing", which tells an operator nothing."""

    def missing(_: FakeGuest) -> dict[str, int]:
        raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "internal error: backup job data missing")

    monkeypatch.setattr(FakeGuest, "jobStats", missing)
    fault = prepared(two_disks(filesystems=[ROOT])).fault
    assert fault is not None
    assert (fault.code, fault.guest) == ("lost-backup", "alpha")


@pytest.mark.parametrize(
    ("size_bytes", "why"),
    [(0, "it is empty, it has 0 bytes"), ((4096 << 32) + 1, "holds disks of 17592186044416 at most")],
)
@pytest.mark.parametrize("hold", [HoldKind.PAUSE, HoldKind.NONE])
def test_a_disk_for_which_there_is_no_index_is_refused_before_any_guest_is_held(
    prepared: Prepare, size_bytes: int, why: str, hold: HoldKind
) -> None:
    guest = two_disks()
    guest.sizes = {"vdb": size_bytes}
    refused = prepared(guest, hold)
    assert refused.fault is not None
    assert refused.fault.code == "disk-not-capturable"
    assert refused.fault.message.startswith("Disk vdb of guest alpha cannot be captured: ")
    assert why in refused.fault.message
    assert f"--skip-disk {UUID}:vdb" in refused.fault.advice
    made = prepared(guest, hold, skip=("vdb",))
    assert made.fault is None
    assert [disk.target for disk in made.disks] == ["vda"]


@pytest.mark.parametrize("size_bytes", [1, 511, 513, 4097, 4096 << 32])
def test_a_disk_of_any_other_size_is_taken(size_bytes: int) -> None:
    assert size_hindrance(size_bytes, 4096) is None
    assert IndexHeader(size_bytes, 4096).slots >= 1


@pytest.mark.parametrize("size_bytes", [0, -1, (4096 << 32) + 1])
def test_what_is_refused_is_what_no_index_can_be_made_for(size_bytes: int) -> None:
    assert size_hindrance(size_bytes, 4096)
    with pytest.raises(ValueError, match="a disk of"):
        IndexHeader(size_bytes, 4096)


def test_a_removable_disk_without_a_medium_is_left_out_by_itself(prepared: Prepare) -> None:
    """As an administrator leaves it who has ejected it; it has no source then, and is asked for no size."""
    ejected = "<disk type='file' device='disk'><driver type='raw'/><target dev='sda' bus='usb' removable='on'/></disk>"
    guest = FakeGuest(domain_xml(disk_xml("vda", "/a"), ejected))
    guest.sizes = {"sda": 0}
    made = prepared(guest, HoldKind.PAUSE)
    assert made.fault is None
    assert [(one.target, one.reason) for one in made.skipped] == [("sda", "it has no source")]


def test_a_guest_is_ready_only_once_the_guard_the_orphans_and_a_rehearsal_allow_it(
    prepared: Prepare, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in its turn: what is refused has made no file, and what QEMU cannot open is not found out in the hold."""
    done: list[str] = []
    scratch = [host.scratch_file(CAPTURE, UUID, target) for target in ("vda", "vdb")]

    def check_let_go(asked: Host, plan: GuestPlan) -> None:
        assert (asked, plan.guest_uuid) == (host, UUID)
        done.append(f"guard, {sum(path.exists() for path in scratch)} files")

    def remove_orphans(domain: Domain, disks: Sequence[DomainDisk]) -> None:
        done.append(f"orphans of {domain.uuid}, {' '.join(disk.target for disk in disks)}")

    def rehearse(asked: Host, capture_id: str, qemu: QemuProcess, files: Sequence[Path]) -> None:
        assert (asked, capture_id, qemu.uuid, list(files)) == (host, CAPTURE, UUID, scratch)
        done.append(f"rehearsal, {sum(path.exists() for path in scratch)} files")

    for stand_in in (check_let_go, remove_orphans, rehearse):
        monkeypatch.setattr(prepare, stand_in.__name__, stand_in)
    assert prepared(two_disks(filesystems=[ROOT])).fault is None
    assert done == ["guard, 0 files", f"orphans of {UUID}, vda vdb", "rehearsal, 2 files"]


@pytest.mark.parametrize("check", ["check_let_go", "rehearse"])
def test_what_the_guard_or_the_rehearsal_refuses_is_refused(
    prepared: Prepare, host: Host, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    def refuses(*_: object) -> None:
        raise GuestFrozenError(NamedGuest("alpha", UUID))

    monkeypatch.setattr(prepare, check, refuses)
    fault = prepared(two_disks(filesystems=[ROOT])).fault
    assert fault is not None
    assert (fault.code, fault.guest) == (GuestFrozenError.code, "alpha")
    assert host.claims.holder(UUID) is None


def test_a_disk_whose_bitmap_cannot_be_relied_on_is_full_and_names_no_parent(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent is known all the same: what QEMU would tell as changed is not all that has."""
    (tmp_path / "a").write_bytes(b"QFI\xfb\0\0\0\x03" + bytes(96))
    guest = FakeGuest(domain_xml(disk_xml("vda", str(tmp_path / "a"), driver="qcow2")))
    [before] = prepared(guest, HoldKind.NONE).disks
    parent = {
        "capture_id": "01K99999999999999999999999",
        "checkpoint": "cp",
        "size_bytes": before.size_bytes,
        "chunk_bytes": 4096,
        "index": "1" * 64,
        "identity": before.identity,
    }
    monkeypatch.setattr(checkpoint, "chain_fault", lambda *_: "checkpoint cp is not sound")
    [disk] = prepared(guest, HoldKind.NONE, parents=[{"target": "vda", "parent": parent}]).disks
    assert "not sound" in (disk.full_reason or "")
    assert (disk.kind, disk.parent_index, disk.parent_capture_id) == (CaptureKind.FULL, None, None)


def test_a_blocked_status_is_not_asked_for_and_told_as_blocked(prepared: Prepare) -> None:
    guest = two_disks(filesystems=[ROOT])
    guest.commands["guest-fsfreeze-status"] = False
    fault = prepared(guest).fault
    assert fault is not None
    assert (fault.code, "guest-fsfreeze-status" in fault.message) == ("agent-command-blocked", True)
