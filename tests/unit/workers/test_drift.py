"""A guest whose disks have changed since it was prepared is not held, and the disk is named (P5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.order import GuestToHold, HoldOrder
from freezeframe.contract.result import HeldGuestFault, PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind, HoldKind, Step
from workers import durable
from workers.fitness import DiskSet, compare_disks
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import DomainDisk, disks_of, parse
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import UUID, FakeGuest, disk_xml, domain_xml
from workers.identity.read import Unknown
from workers.journal import AnyChange, BackupChange, CaptureJournal, HoldChange, LetGoChange
from workers.refusal import DisksChangedError, GuestRestartedError
from workers.steps import drift
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.held_guest import ready

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
BETA = f"{UUID[:-1]}b"
VDA = DomainDisk("vda", "disk", "file", "/a", "qcow2", transient=False, bus="virtio")
VDB = replace(VDA, target="vdb", source="/b")
CDROM = DomainDisk("sda", "cdrom", "file", "", "raw", transient=False, bus="sata", readonly=True)
DRIVE = replace(CDROM, target="sdb", device="disk", readonly=False)  # a drive without a medium

pytestmark = pytest.mark.case("P5")


def changes(*now: DomainDisk, skipped: tuple[str, ...] = ("sda",)) -> tuple[str, ...]:
    return compare_disks([VDA, VDB, CDROM, DRIVE], now, ["vda"], skipped).changes


def test_the_same_disks_are_no_change_and_what_is_not_captured_is_left_out() -> None:
    assert compare_disks([VDA, VDB, CDROM], [VDA, VDB, CDROM], ["vda"], ["vdb", "sda"]) == DiskSet(("vdb", "sda"))


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ((VDB, CDROM), "disk vda was detached"),
        ((VDA, VDB, CDROM, replace(VDA, target="vdc", source="/c")), "disk vdc (/c) was attached"),
        ((replace(VDA, source="/x"), VDB), "disk vda has another source: /x instead of /a"),
        ((replace(VDA, source_format="raw"), VDB), "disk vda has another format: raw instead of qcow2"),
        ((replace(VDA, shareable=True), VDB), "disk vda is shareable now"),
        ((replace(VDA, encryption="luks"), VDB), "disk vda has another encryption: luks instead of None"),
        ((VDA, VDB, replace(DRIVE, source="/stick")), "disk sdb (/stick) was attached"),
    ],
)
def test_each_change_of_a_disk_with_data_is_named(now: tuple[DomainDisk, ...], said: str) -> None:
    assert changes(*now, skipped=("vdb", "sda", "sdb")) == (said,)


def test_drives_and_disks_that_the_caller_left_out_may_come_and_go() -> None:
    other_medium = replace(CDROM, source="/iso")
    floppy = replace(CDROM, target="fda", device="floppy")
    found = compare_disks([VDA, VDB, CDROM], [VDA, other_medium, floppy], ["vda"], ["vdb", "sda"])
    assert found == DiskSet(("sda", "fda"))
    replaced = compare_disks([VDA, VDB], [VDA, replace(VDB, source="/z")], ["vda"], ["vdb"])
    assert replaced == DiskSet(("vdb",))


def prepared(guest: FakeGuest, identity: DiskIdentity | None = None) -> PreparedGuest:
    disks = tuple(
        PreparedDisk(
            target=disk.target,
            source=disk.source,
            source_format="raw",
            size_bytes=1 << 20,
            kind=CaptureKind.FULL,
            identity=identity,
        )
        for disk in disks_of(guest.live_xml)
        if disk.device == "disk"
    )
    return PreparedGuest(guest_uuid=guest.uuid, name=guest.label, disks=disks, live_xml=guest.live_xml)


Ready = Callable[..., tuple[list[HeldGuest], list[HeldGuestFault]]]


@pytest.fixture
def make_ready(host: Host, monkeypatch: pytest.MonkeyPatch, every_guest_has_a_qemu: None) -> Ready:
    """Make the hold of prepared guests ready, as they are now."""
    durable.make_directory(host.settings.scratch_dir)

    def make(
        *guests: tuple[PreparedGuest, FakeGuest], all_or_nothing: bool
    ) -> tuple[list[HeldGuest], list[HeldGuestFault]]:
        now = {before.guest_uuid: guest for before, guest in guests}
        monkeypatch.setattr(Hypervisor, "domain", lambda _, guest_uuid: Domain(now[guest_uuid]))
        result = PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=tuple(before for before, _ in guests))
        host.journal.of(CAPTURE).store_result(Step.PREPARE, "", result.model_dump_json())
        for guest_uuid in now:
            host.claims.take(guest_uuid, CAPTURE)
        order = HoldOrder(
            capture_id=CAPTURE,
            epoch=1,
            host_id="host-a",
            not_after=datetime.now(UTC),
            repository_id="6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e",
            members=1,
            guests=tuple(GuestToHold(guest_uuid=one, hold=GuestHold(kind=HoldKind.PAUSE)) for one in now),
            muster_timeout_s=1,
            hold_timeout_s=1,
            all_or_nothing=all_or_nothing,
        )
        unfit: list[HeldGuestFault] = []
        return ready(host, order, host.journal.of(CAPTURE), unfit), unfit

    return make


def guest(*disks: str, uuid: str = UUID, name: str = "alpha") -> FakeGuest:
    return FakeGuest(domain_xml(*disks, uuid=uuid, name=name), uuid=uuid, label=name)


def test_a_guest_that_changed_is_refused_before_anything_is_recorded_of_a_hold(make_ready: Ready, host: Host) -> None:
    before = guest(disk_xml("vda", "/a"))
    with pytest.raises(DisksChangedError, match=r"Since guest alpha was prepared, disk vdb \(/b\) was attached"):
        make_ready((prepared(before), guest(disk_xml("vda", "/a"), disk_xml("vdb", "/b"))), all_or_nothing=True)
    kinds = {type(change) for change in host.journal.of(CAPTURE).changes()}
    assert not kinds & {HoldChange, BackupChange}


def test_storage_passed_through_since_it_was_prepared_is_a_change(make_ready: Ready) -> None:
    lun = "<hostdev mode='subsystem' type='scsi'><source protocol='iscsi' name='iqn.x'/></hostdev>"
    without, with_lun = guest(disk_xml("vda", "/a")), guest(disk_xml("vda", "/a"), lun)
    with pytest.raises(DisksChangedError, match=r"device hostdev0 \(iscsi LUN iqn\.x\) was attached"):
        make_ready((prepared(without), with_lun), all_or_nothing=True)
    held, unfit = make_ready((prepared(with_lun), with_lun), all_or_nothing=True)
    assert (len(held), unfit) == (1, [])


def test_with_degrade_only_the_guest_that_changed_is_lost(make_ready: Ready) -> None:
    alpha, beta = guest(disk_xml("vda", "/a")), guest(disk_xml("vda", "/b"), uuid=BETA, name="beta")
    changed = guest(disk_xml("vda", "/x"))
    held, unfit = make_ready((prepared(alpha), changed), (prepared(beta), beta), all_or_nothing=False)
    assert [one.domain.name for one in held] == ["beta"]
    assert [(one.guest_uuid, one.fault.code, one.fault.guest) for one in unfit] == [(UUID, "disks-changed", "alpha")]


def test_with_degrade_and_nobody_left_each_guest_is_told_and_none_is_held(make_ready: Ready) -> None:
    alpha, beta = guest(disk_xml("vda", "/a")), guest(disk_xml("vda", "/b"), uuid=BETA, name="beta")
    held, unfit = make_ready(
        (prepared(alpha), guest(disk_xml("vda", "/x"))),
        (prepared(beta), guest(disk_xml("vda", "/x"), uuid=BETA, name="beta")),
        all_or_nothing=False,
    )
    assert held == []
    assert [(one.fault.code, one.fault.guest) for one in unfit] == [
        ("disks-changed", "alpha"),
        ("disks-changed", "beta"),
    ]


def test_another_file_under_the_old_name_is_found_by_its_identity(
    make_ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(inode: str) -> DiskIdentity:
        return DiskIdentity(active=Layer(kind="file", place="/a", facts={"path": "/a", "inode": inode}))

    monkeypatch.setattr(drift, "read_identities", lambda _, targets: {target: identity("2") for target in targets})
    same = guest(disk_xml("vda", "/a"))
    with pytest.raises(DisksChangedError, match=r"disk vda was replaced: .*inode 2 instead of 1"):
        make_ready((prepared(same, identity("1")), same), all_or_nothing=True)
    held, unfit = make_ready((prepared(same, identity("2")), same), all_or_nothing=True)
    assert (len(held), unfit) == (1, [])


def test_a_disk_that_was_known_and_is_not_any_more_counts_as_replaced(
    make_ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown is never equal; a disk of which nothing was known was prepared as such, and is always read in full."""
    known = DiskIdentity(active=Layer(kind="file", place="/a", facts={"path": "/a", "inode": "1"}))
    monkeypatch.setattr(
        drift, "read_identities", lambda _, targets: dict.fromkeys(targets, Unknown("/a: Stale handle"))
    )
    same = guest(disk_xml("vda", "/a"))
    with pytest.raises(
        DisksChangedError, match=r"cannot be told any more whether disk vda is the same: /a: Stale handle"
    ):
        make_ready((prepared(same, known), same), all_or_nothing=True)
    held, unfit = make_ready((prepared(same), same), all_or_nothing=True)
    assert (len(held), unfit) == (1, [])


def test_a_guest_that_was_started_anew_is_not_held(make_ready: Ready) -> None:
    """What prepare tried, it tried on another QEMU."""
    before, now = guest(disk_xml("vda", "/a")), guest(disk_xml("vda", "/a"))
    before.live_xml = before.live_xml.replace("<domain ", "<domain id='4' ")
    now.live_xml = now.live_xml.replace("<domain ", "<domain id='5' ")
    with pytest.raises(GuestRestartedError, match="Guest alpha was stopped and started again since it was prepared"):
        make_ready((prepared(before), now), all_or_nothing=True)
    assert len(make_ready((prepared(before), before), all_or_nothing=True)[0]) == 1


@pytest.mark.parametrize("size_bytes", [0, (1 << 20) + 1, 1 << 30])
def test_a_disk_of_another_size_is_named_whatever_it_has_become(make_ready: Ready, size_bytes: int) -> None:
    """An image that was truncated to nothing has no index; one with a sector in part has one."""
    before, now = guest(disk_xml("vda", "/a")), guest(disk_xml("vda", "/a"))
    now.sizes = {"vda": size_bytes}
    with pytest.raises(DisksChangedError, match=rf"disk vda was resized from 1048576 to {size_bytes} bytes"):
        make_ready((prepared(before), now), all_or_nothing=True)


def test_a_disk_that_was_resized_is_named_and_not_held(make_ready: Ready) -> None:
    before, now = guest(disk_xml("vda", "/a")), guest(disk_xml("vda", "/a"))
    now.size_bytes = 3 << 20
    with pytest.raises(DisksChangedError, match=r"disk vda was resized from 1048576 to 3145728 bytes"):
        make_ready((prepared(before), now), all_or_nothing=True)


def test_a_drive_that_was_attached_meanwhile_is_named_in_the_backup_as_left_out(make_ready: Ready) -> None:
    cdrom = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
    before = guest(disk_xml("vda", "/a"))
    held, _ = make_ready((prepared(before), guest(disk_xml("vda", "/a"), cdrom)), all_or_nothing=True)
    listed = {disk.get("name"): disk.get("backup") for disk in parse(held[0].backup_xml).iterfind("disks/disk")}
    assert listed == {"vda": "yes", "sda": "no"}


def test_a_hold_that_was_written_down_and_does_not_come_about_is_let_go_of_at_once(
    make_ready: Ready, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has the line, and says that it failed: recovery would thaw a guest that others hold by then."""
    alpha, beta = guest(disk_xml("vda", "/a")), guest(disk_xml("vda", "/b"), uuid=BETA, name="beta")
    record = CaptureJournal.record

    def fails_behind(journal: CaptureJournal, change: AnyChange) -> None:
        record(journal, change)
        if isinstance(change, HoldChange) and change.guest_uuid == UUID:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(CaptureJournal, "record", fails_behind)
    held, unfit = make_ready((prepared(alpha), alpha), (prepared(beta), beta), all_or_nothing=False)
    assert ([one.uuid for one in held], [one.guest_uuid for one in unfit]) == ([BETA], [UUID])
    journal = host.journal.of(CAPTURE)
    let_go = [one.guest_uuid for one in journal.changes() if isinstance(one, LetGoChange)]
    assert let_go == [UUID]
