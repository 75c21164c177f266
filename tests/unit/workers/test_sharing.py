"""A disk that another guest may write to is found in prepare, whichever name each has for it (P2)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freezeframe.contract.result import StorageUse
from workers.fitness import DiskUse, later_uses, shared_reason, uses_everywhere
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_guest import UUID, FakeGuest, disk_xml, domain_xml, libvirt_error
from workers.identity.places import keys_of
from workers.identity.uses import disk_uses

OTHER = "00000000-0000-4000-8000-00000000000b"

pytestmark = pytest.mark.case("P2")


def use(guest_uuid: str, target: str, *writes: str, below: tuple[str, ...] = ()) -> DiskUse:
    return DiskUse(guest_uuid, f"guest {guest_uuid[-1]}", target, frozenset({*writes, *below}), frozenset(writes))


def test_two_guests_that_write_to_one_source_are_both_refused() -> None:
    uses = [use(UUID, "vda", "x"), use(OTHER, "vdb", "x", "y")]
    assert shared_reason(UUID, "vda", uses) == "disk vdb of the running guest guest b writes to the same storage"
    assert shared_reason(OTHER, "vdb", uses) == "disk vda of the running guest guest a writes to the same storage"


def test_a_guest_that_has_one_source_twice_is_refused() -> None:
    uses = [use(UUID, "vda", "x"), use(UUID, "vdb", "x")]
    assert shared_reason(UUID, "vda", uses) == "disk vdb of the same guest writes to the same storage"


def test_overlays_over_one_base_share_nothing_that_is_written() -> None:
    uses = [use(UUID, "vda", "a", below=("base",)), use(OTHER, "vda", "b", below=("base",))]
    assert shared_reason(UUID, "vda", uses) is None


def test_an_overlay_whose_base_another_guest_writes_to_is_refused_and_the_base_is_not() -> None:
    uses = [use(UUID, "vda", "a", below=("base",)), use(OTHER, "vda", "base")]
    assert shared_reason(UUID, "vda", uses) is not None
    assert shared_reason(OTHER, "vda", uses) is None


def test_only_a_writer_is_in_the_way() -> None:
    reader = DiskUse(OTHER, "beta", "vda", frozenset({"x"}), frozenset())
    uses = [use(UUID, "vda", "x"), reader]
    assert shared_reason(UUID, "vda", uses) is None
    assert shared_reason(OTHER, "vda", uses) is not None


def test_other_hosts_are_told_who_reads_only_and_who_writes_to_a_part_by_a_name_of_this_host_s() -> None:
    """An image has no name that they know; the LUN that its file system is on has."""
    lun = frozenset({"wwid naa.1 "})
    reader = DiskUse(UUID, "alpha", "vda", lun | {"device sdb"}, frozenset())
    image = DiskUse(OTHER, "beta", "vda", frozenset({"path /i"}), frozenset({"path /i"}), within=lun)
    nobody = use(OTHER, "vdb", "path /x")
    told = uses_everywhere([reader, image, nobody])
    assert [(one.guest, one.readonly, one.shows, one.writes, one.within) for one in told] == [
        ("alpha", True, ("wwid naa.1 ",), (), ()),
        ("beta", False, (), (), ("wwid naa.1 ",)),
    ]


def running(monkeypatch: pytest.MonkeyPatch, *guests: FakeGuest) -> list[DiskUse]:
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [Domain(guest) for guest in guests])
    return disk_uses(Hypervisor("test:///default"))


def guest(uuid: str, source: Path | str, more: str = "") -> FakeGuest:
    xml = domain_xml(disk_xml("vda", os.fspath(source), more=more), name=uuid[-1], uuid=uuid)
    return FakeGuest(xml, uuid=uuid, label=uuid[-1])


@pytest.mark.parametrize("way", ["path", "symlink", "hardlink", "dots"])
def test_one_image_is_known_by_whichever_name_it_is_reached(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = tmp_path / "image", tmp_path / "other"
    image.write_bytes(b"x")
    match way:
        case "path":
            other = image
        case "symlink":
            other.symlink_to(image)
        case "hardlink":
            other.hardlink_to(image)
    path = f"{tmp_path}/../{tmp_path.name}/image" if way == "dots" else other
    uses = running(monkeypatch, guest(UUID, image), guest(OTHER, path))
    assert shared_reason(UUID, "vda", uses) is not None


def test_two_images_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    assert (
        shared_reason(UUID, "vda", running(monkeypatch, guest(UUID, tmp_path / "a"), guest(OTHER, tmp_path / "b")))
        is None
    )


def test_a_source_that_cannot_be_looked_at_is_known_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    uses = running(monkeypatch, guest(UUID, "/nowhere/a"), guest(OTHER, "/nowhere/a"))
    assert shared_reason(UUID, "vda", uses) is not None


def network_disk(protocol: str, name: str, host: str = "") -> str:
    source = f"<source protocol='{protocol}' name='{name}'>{host}</source>"
    return f"<disk type='network' device='disk'><driver type='raw'/>{source}<target dev='vda'/></disk>"


def remote(uuid: str, *devices: str) -> FakeGuest:
    return FakeGuest(domain_xml(*devices, name=uuid[-1], uuid=uuid), uuid=uuid, label=uuid[-1])


def nbd(host: str) -> str:
    return network_disk("nbd", "x", f"<host {host}/>")


@pytest.mark.parametrize(
    ("host", "shared"),
    [
        ("name='s1' port='10809'", True),
        ("name='s1'", True),
        ("name='S1.' port='10809'", True),
        ("name='s2' port='10809'", False),
        ("name='s1' port='10810'", False),
        ("transport='unix' socket='/run/s1'", False),
    ],
)
def test_network_storage_is_known_by_its_name_and_servers(
    host: str,
    shared: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uses = running(monkeypatch, remote(UUID, nbd("name='s1' port='10809'")), remote(OTHER, nbd(host)))
    assert (shared_reason(UUID, "vda", uses) is not None) == shared


def test_this_host_s_own_server_has_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    guests = (remote(UUID, nbd("name='localhost'")), remote(OTHER, nbd("name='127.0.0.1' port='10809'")))
    assert shared_reason(UUID, "vda", running(monkeypatch, *guests)) is not None


@pytest.mark.parametrize(
    ("lun", "shared"), [("iqn.2026-01.org.example:t/1", True), ("iqn.2026-01.org.example:t/2", False)]
)
def test_an_iscsi_lun_that_is_passed_through_is_a_use_of_it(
    lun: str,
    shared: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = network_disk("iscsi", "iqn.2026-01.org.example:t/1", "<host name='s' port='3260'/>")
    hostdev = (
        f"<hostdev mode='subsystem' type='scsi'><source protocol='iscsi' name='{lun}'><host name='s'/></source>"
        "<alias name='hostdev0'/></hostdev>"
    )
    uses = running(monkeypatch, remote(UUID, disk), remote(OTHER, disk_xml("vda", "/none"), hostdev))
    reason = "disk hostdev0 of the running guest b writes to the same storage"
    assert shared_reason(UUID, "vda", uses) == (reason if shared else None)
    read_only = remote(OTHER, hostdev.replace("<alias", "<readonly/><alias"))
    assert shared_reason(UUID, "vda", running(monkeypatch, remote(UUID, disk), read_only)) is None


def test_a_guest_that_reads_only_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    uses = running(monkeypatch, guest(UUID, image), guest(OTHER, image, more="<readonly/>"))
    assert shared_reason(UUID, "vda", uses) is None
    assert shared_reason(OTHER, "vda", uses) is not None


def test_the_images_below_an_overlay_are_read_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, overlays = tmp_path / "base", [tmp_path / "a", tmp_path / "b"]
    for path in (base, *overlays):
        path.write_bytes(b"x")
    below = f"<backingStore type='file'><format type='raw'/><source file='{base}'/><backingStore/></backingStore>"
    alpha, beta = guest(UUID, overlays[0], below), guest(OTHER, overlays[1], below)
    uses = running(monkeypatch, alpha, beta)
    assert shared_reason(UUID, "vda", uses) is None
    uses = running(monkeypatch, alpha, guest(OTHER, base))
    assert shared_reason(UUID, "vda", uses) is not None  # the base of its overlay is written to
    assert shared_reason(OTHER, "vda", uses) is None


@pytest.mark.parametrize("job", ["copy", "active-commit"])
def test_the_destination_of_another_guest_s_block_job_is_written_to(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, own = tmp_path / "image", tmp_path / "own"
    for path in (image, own):
        path.write_bytes(b"x")
    mirror = f"<mirror type='file' job='{job}'><format type='raw'/><source file='{image}'/></mirror>"
    uses = running(monkeypatch, guest(UUID, image), guest(OTHER, own, mirror))
    assert shared_reason(UUID, "vda", uses) == "disk vda of the running guest b writes to the same storage"
    uses = running(monkeypatch, guest(UUID, image), guest(OTHER, own, mirror.replace("<source", "<nothing")))
    assert shared_reason(UUID, "vda", uses) is None


def test_persistent_memory_of_another_guest_is_a_use_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    memory = f"<memory model='nvdimm'><source><path>{image}</path></source><alias name='nvdimm0'/></memory>"
    other = FakeGuest(domain_xml(disk_xml("vda", "/none"), memory, name="b", uuid=OTHER), uuid=OTHER, label="b")
    uses = running(monkeypatch, guest(UUID, image), other)
    assert shared_reason(UUID, "vda", uses) == "disk nvdimm0 of the running guest b writes to the same storage"
    read_only = FakeGuest(
        domain_xml(memory.replace("<alias", "<target><readonly/></target><alias"), name="b", uuid=OTHER), uuid=OTHER
    )
    assert shared_reason(UUID, "vda", running(monkeypatch, guest(UUID, image), read_only)) is None


def test_a_volume_is_the_file_that_its_pool_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    disk = (
        "<disk type='volume' device='disk'><driver type='raw'/><source pool='p' volume='v'/><target dev='vda'/></disk>"
    )
    pooled = FakeGuest(domain_xml(disk, uuid=OTHER), uuid=OTHER, label="b")
    places = {("p", "v"): os.fspath(image)}

    def volume_path(_: Domain, pool: str, volume: str) -> str:
        if (pool, volume) not in places:
            raise HypervisorError("Looking for volume v of pool p failed.")
        return places[pool, volume]

    monkeypatch.setattr(Domain, "volume_path", volume_path)
    monkeypatch.setattr(Hypervisor, "domain", lambda _, guest_uuid: Domain(pooled) if guest_uuid == OTHER else None)
    assert shared_reason(UUID, "vda", running(monkeypatch, guest(UUID, image), pooled)) is not None
    places.clear()  # it is not in the pool any more, while its guest runs on
    assert shared_reason(UUID, "vda", running(monkeypatch, guest(UUID, image), pooled)) is None


def test_guests_that_are_off_or_gone_use_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off, gone = guest(OTHER, tmp_path), guest(OTHER, tmp_path)
    monkeypatch.setattr(off, "isActive", lambda: False)

    def undefined(_flags: int = 0) -> str:
        raise libvirt_error(42)  # VIR_ERR_NO_DOMAIN

    monkeypatch.setattr(gone, "XMLDesc", undefined)
    assert [one.guest_uuid for one in running(monkeypatch, guest(UUID, tmp_path), off, gone)] == [UUID]


def test_a_loop_device_is_the_file_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is told by a copy of /sys; /dev/null stands for the device's node, which is none."""
    image = tmp_path / "image"
    image.write_bytes(b"x")
    entry = tmp_path / "sys/dev/block/7:3/loop"
    entry.mkdir(parents=True)
    (entry / "backing_file").write_text(f"{image}\n", encoding="utf-8")
    node = os.stat_result((0o060660, 1, 1, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": os.makedev(7, 3)})
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **more: node if str(path) == "/dev/loop3" else real(path, **more))
    assert keys_of("/dev/loop3", sys=tmp_path / "sys") & keys_of(str(image))


LUN, VOLUME = "wwid naa.1 ", "lvm LVM-volume "


def told(*writes: str, within: tuple[str, ...] = (), readonly: bool = False) -> StorageUse:
    return StorageUse(guest_uuid=OTHER, guest="b", target="vda", readonly=readonly, writes=writes, within=within)


@pytest.mark.parametrize(
    ("before", "later"),
    [
        ((), ((LUN,), ())),
        ((told(LUN),), None),
        ((told(within=(LUN,)),), None),
        ((told(VOLUME),), ((LUN,), ())),
        ((told(LUN, readonly=True),), ((LUN,), ())),
        ((told(VOLUME), told(LUN)), None),
    ],
)
def test_other_hosts_are_told_later_only_of_writers_that_are_new(
    before: tuple[StorageUse, ...], later: tuple[tuple[str, ...], tuple[str, ...]] | None
) -> None:
    reader = DiskUse(UUID, "alpha", "vda", frozenset({LUN}), frozenset(), within=frozenset({VOLUME}))
    local = use(UUID, "vdb", "path /x", "file 1:2")
    found = later_uses([reader, local, use(OTHER, "vda", LUN, "device sdb")], before)
    assert [(one.guest_uuid, one.shows, one.writes, one.within) for one in found] == (
        [] if later is None else [(OTHER, (), *later)]
    )


def test_other_hosts_are_told_later_of_who_writes_to_a_part_of_what_they_may_have() -> None:
    part = DiskUse(OTHER, "b", "vda", frozenset({"path /i"}), frozenset({"path /i"}), within=frozenset({LUN}))
    assert [(one.writes, one.within) for one in later_uses([part], [told(VOLUME)])] == [((), (LUN,))]
    assert later_uses([part], [told(within=(LUN,))]) == ()
