"""Guests on two hosts with one disk are refused before any guest is held, and never because two paths look alike (P2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.result import (
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    StorageUse,
    TransferResult,
)
from freezeframe.contract.words import CaptureKind
from freezeframe.errors import EXIT_REFUSED
from orchestrator.sharing import captured_disks, faults_since, shared_faults

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
LUN = Layer(kind="block", place="/dev/dm-0", facts={"SCSI WWID": "naa.6001405"})

pytestmark = pytest.mark.case("P2")


def network(**facts: str) -> Layer:
    return Layer(kind="network", place="x", facts=facts)


def prepared(host: str, guest: str, active: Layer, **changes: Any) -> PrepareResult:
    disk = PreparedDisk(
        target="vdb",
        source="/dev/san",
        source_format="raw",
        size_bytes=1,
        kind=CaptureKind.FULL,
        identity=DiskIdentity(active=active),
        **changes,
    )
    made = PreparedGuest(guest_uuid=guest, name=f"guest {guest[-1]}", disks=(disk,))
    return PrepareResult(capture_id=CAPTURE, host_id=host, guests=(made,))


@pytest.mark.parametrize(
    "storage",
    [
        LUN,
        Layer(kind="block", place="/dev/nvme1n1", facts={"WWID": "eui.1"}),
        Layer(kind="block", place="/dev/rbd0", facts={"cluster_fsid": "c", "pool": "p", "image_id": "1"}),
        network(protocol="iscsi", name="iqn.2004-04.org.example:disk/1"),
        network(protocol="nbd", name="x", servers="store:10809"),
        network(protocol="gluster", name="volume/x", servers="store:24007 localhost:24007"),
    ],
)
def test_storage_that_is_the_same_everywhere_is_refused_for_both(storage: Layer) -> None:
    faults = shared_faults([prepared("host-a", ALPHA, storage), prepared("host-b", BETA, storage)])
    assert set(faults) == {ALPHA, BETA}
    alpha = faults[ALPHA]
    assert (alpha.guest, alpha.host, alpha.exit_code) == ("guest a", "host-a", EXIT_REFUSED)
    assert "guest guest b on host host-b writes to the same storage" in alpha.message
    assert f"--skip-disk {ALPHA}:vdb" in alpha.advice


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Layer(kind="file", place="/a", facts={"path": "/a", "inode": "1"}),) * 2,
        (Layer(kind="block", place="/dev/sdb", facts={"path": "/dev/sdb"}),) * 2,
        (LUN, Layer(kind="block", place="/dev/dm-0", facts={"SCSI WWID": "naa.other"})),
        tuple(Layer(kind="block", place=f"p{number}", facts={"WWID": "e", "partition": number}) for number in "12"),
        (network(protocol="rbd", name="pool/image"),) * 2,
        (network(protocol="nbd", name="x", servers="localhost:10809"),) * 2,
        (network(protocol="nbd", name="x", servers="127.0.0.1:10809"),) * 2,
        (network(protocol="nbd", name="x", servers="[::1]:10809"),) * 2,
        (network(protocol="nbd", name="x", servers="/run/nbd.sock"),) * 2,
        (network(protocol="nbd", name="x", servers="s1:1"), network(protocol="nbd", name="x", servers="s2:1")),
    ],
)
def test_what_only_looks_alike_is_not_the_same(one: Layer, other: Layer) -> None:
    assert shared_faults([prepared("host-a", ALPHA, one), prepared("host-b", BETA, other)]) == {}


def test_only_a_writer_is_in_the_way() -> None:
    faults = shared_faults([prepared("host-a", ALPHA, LUN), prepared("host-b", BETA, LUN, readonly=True)])
    assert set(faults) == {BETA}


def test_one_guest_that_two_hosts_prepared_shares_nothing_with_itself() -> None:
    assert shared_faults([prepared("host-a", ALPHA, LUN), prepared("host-b", ALPHA, LUN)]) == {}


def test_a_data_file_is_shared_as_a_disk_is() -> None:
    overlay = prepared("host-a", ALPHA, Layer(kind="file", place="/m", facts={"path": "/m"}))
    disk = overlay.guests[0].disks[0]
    assert disk.identity is not None
    with_data = disk.model_copy(update={"identity": disk.identity.model_copy(update={"data_file": LUN})})
    guest = overlay.guests[0].model_copy(update={"disks": (with_data,)})
    faults = shared_faults([overlay.model_copy(update={"guests": (guest,)}), prepared("host-b", BETA, LUN)])
    assert set(faults) == {ALPHA, BETA}


WHOLE = "wwid naa.6001405 "
GAMMA = "00000000-0000-4000-8000-00000000000c"


def use(guest: str, target: str = "vdc", *, within: bool = False, reads_only: bool = False) -> StorageUse:
    """Return a use of the LUN by a disk that is not captured."""
    keys = () if within else (WHOLE,)
    return StorageUse(
        guest_uuid=guest,
        guest=f"guest {guest[-1]}",
        target=target,
        readonly=reads_only,
        shows=keys or ("lvm LVM-volume ",),
        writes=() if reads_only else keys or ("lvm LVM-volume ",),
        within=(WHOLE,) if within else (),
    )


def beside(host: str, guest: str, *uses: StorageUse, fault: Fault | None = None) -> PrepareResult:
    """Return the result of a host whose guest has a disk of its own, or is refused, and where others use storage."""
    own = prepared(host, guest, Layer(kind="file", place="/own", facts={"path": "/own"}))
    guests = (
        own.guests[0].model_copy(update={"disks": (own.guests[0].disks[0].model_copy(update={"target": "vda"}),)}),
    )
    refused = PreparedGuest(guest_uuid=guest, name=f"guest {guest[-1]}", fault=fault)
    return own.model_copy(update={"uses": uses, "guests": (refused,) if fault else guests})


@pytest.mark.parametrize(
    "other",
    [
        beside("host-b", BETA, use(BETA)),  # left out by the caller
        beside("host-b", BETA, use(BETA, "hostdev0")),  # passed through
        beside("host-b", BETA, use(BETA, within=True)),  # a volume on it
        beside(
            "host-b", BETA, use(BETA).model_copy(update={"shows": (), "writes": (), "within": (WHOLE,)})
        ),  # an image on it
        beside("host-b", BETA, use(GAMMA)),  # of a guest that is not captured
        beside("host-b", BETA, use(BETA), fault=Fault(code="no-agent", message="The agent does not answer.")),
    ],
)
def test_whoever_writes_to_it_is_in_the_way_captured_or_not(other: PrepareResult) -> None:
    (writer,) = other.uses
    faults = shared_faults([prepared("host-a", ALPHA, LUN), other])
    assert set(faults) == {ALPHA}
    assert f"{writer.guest} on host host-b writes to the same storage" in faults[ALPHA].message
    assert f"--skip-disk {ALPHA}:vdb " in faults[ALPHA].advice
    assert f"shut guest {writer.guest} down, or detach its {writer.target}" in faults[ALPHA].advice


def test_a_part_is_not_captured_while_another_host_s_guest_writes_to_the_whole() -> None:
    volume = Layer(kind="block", place="/dev/v", facts={"device-mapper UUID": "LVM-v"}, lies_on=(WHOLE,))
    faults = shared_faults([prepared("host-a", ALPHA, volume), beside("host-b", BETA, use(GAMMA))])
    assert set(faults) == {ALPHA}


@pytest.mark.parametrize(
    "other",
    [
        beside("host-b", BETA, use(BETA, reads_only=True)),
        beside("host-b", BETA, use(ALPHA)),  # the guest itself, before it moved to its host
        beside("host-b", BETA),
    ],
)
def test_who_does_not_write_to_it_is_in_nobody_s_way(other: PrepareResult) -> None:
    assert shared_faults([prepared("host-a", ALPHA, LUN), other]) == {}


def test_two_volumes_of_one_lun_are_two() -> None:
    volume = Layer(kind="block", place="/dev/v", facts={"device-mapper UUID": "LVM-other"}, lies_on=(WHOLE,))
    assert shared_faults([prepared("host-a", ALPHA, volume), beside("host-b", BETA, use(GAMMA, within=True))]) == {}


def test_the_advice_is_followed_to_a_capture() -> None:
    """With one guest's disk left out, its writes would be in the other's way still, so both are advised."""
    told = {guest: use(guest, "vdb") for guest in (ALPHA, BETA)}
    hosts = {ALPHA: "host-a", BETA: "host-b"}
    both = [prepared(hosts[guest], guest, LUN).model_copy(update={"uses": (told[guest],)}) for guest in (ALPHA, BETA)]
    faults = shared_faults(both)
    assert set(faults) == {ALPHA, BETA}
    assert f"--skip-disk {ALPHA}:vdb --skip-disk {BETA}:vdb " in faults[ALPHA].advice
    left_out = [beside(hosts[guest], guest, told[guest]) for guest in (ALPHA, BETA)]
    assert set(shared_faults([both[0], left_out[1]])) == {ALPHA}
    assert shared_faults(left_out) == {}


def test_a_captured_disk_is_compared_by_what_its_host_found_beyond_its_identity() -> None:
    """Such as the images below, and the LUN of a disk that cannot be told again after a reboot."""
    unknown = beside("host-a", ALPHA, use(ALPHA, "vda"))
    assert set(shared_faults([unknown, beside("host-b", BETA, use(GAMMA))])) == {ALPHA}


def test_a_refused_guest_s_disks_are_writers_and_have_no_fault_of_their_own() -> None:
    """Its refusal stands, and is what its user must read; what its host has told of its disks is no capture."""
    other = prepared("host-b", BETA, LUN)
    refused = other.guests[0].model_copy(update={"fault": Fault(code="no-agent", message="It does not answer.")})
    faults = shared_faults(
        [
            prepared("host-a", ALPHA, LUN),
            other.model_copy(update={"guests": (refused,), "uses": (use(BETA, "vdb"),)}),
        ]
    )
    assert set(faults) == {ALPHA}
    assert "or detach its vdb, until the capture has ended" in faults[ALPHA].advice


def test_an_older_reader_reads_a_result_without_uses() -> None:
    assert "uses" not in beside("host-b", BETA).model_dump(mode="json")
    told = beside("host-b", BETA, use(BETA))
    assert PrepareResult.model_validate_json(told.model_dump_json()) == told


def test_a_disk_of_which_nothing_is_known_is_not_compared() -> None:
    unknown = [prepared("host-a", ALPHA, LUN), prepared("host-b", BETA, LUN)]
    for number, result in enumerate(unknown):
        disk = result.guests[0].disks[0].model_copy(update={"identity": None})
        guest = result.guests[0].model_copy(update={"disks": (disk,)})
        unknown[number] = result.model_copy(update={"guests": (guest,)})
    assert shared_faults(unknown) == {}


def hold_tells(host: str, *uses: StorageUse) -> HoldResult:
    return HoldResult(capture_id=CAPTURE, host_id=host, uses=uses)


def transfer_tells(host: str, *uses: StorageUse) -> TransferResult:
    return TransferResult(capture_id=CAPTURE, host_id=host, guest_uuid=BETA, target="vda", index="0" * 64, uses=uses)


BOTH = [prepared("host-a", ALPHA, LUN), beside("host-b", BETA)]


@pytest.mark.parametrize("tells", [hold_tells, transfer_tells])
@pytest.mark.parametrize("within", [True, False])
def test_a_writer_on_another_host_that_began_after_prepare_is_found_by_what_that_host_tells_later(
    tells: Callable[..., HoldResult | TransferResult],
    within: bool,  # noqa: FBT001
) -> None:
    assert shared_faults(BOTH) == {}
    faults = faults_since(BOTH, {ALPHA, BETA}, [tells("host-a"), tells("host-b", use(GAMMA, within=within))])
    assert set(faults) == {ALPHA}
    assert (faults[ALPHA].code, faults[ALPHA].guest, faults[ALPHA].host) == ("disk-shared", "guest a", "host-a")
    assert "guest guest c on host host-b writes to the same storage" in faults[ALPHA].message


@pytest.mark.parametrize("tells", [hold_tells, transfer_tells])
def test_what_is_told_later_of_readers_other_storage_own_guests_and_dropped_guests_is_nobody_s_fault(
    tells: Callable[..., HoldResult | TransferResult],
) -> None:
    other = StorageUse(guest_uuid=GAMMA, guest="guest c", target="vda", writes=("wwid naa.2 ",))
    harmless = [tells("host-b", other, use(GAMMA, reads_only=True)), tells("host-a", use(GAMMA))]
    assert faults_since(BOTH, {ALPHA, BETA}, harmless) == {}  # a host looks at its own guests by itself
    assert faults_since(BOTH, {BETA}, [tells("host-b", use(GAMMA))]) == {}


def test_a_guest_that_runs_twice_when_it_was_held_is_its_own_second_writer_and_one_that_moved_afterwards_is_not() -> (
    None
):
    assert set(faults_since(BOTH, {ALPHA}, [hold_tells("host-b", use(ALPHA))])) == {ALPHA}
    assert faults_since(BOTH, {ALPHA}, [transfer_tells("host-b", use(ALPHA))]) == {}


def test_a_volume_is_shared_with_who_writes_to_all_of_its_lun_later() -> None:
    volume = Layer(kind="block", place="v", facts={"device-mapper UUID": "LVM-volume"}, lies_on=(WHOLE,))
    both = [prepared("host-a", ALPHA, volume), beside("host-b", BETA)]
    assert set(faults_since(both, {ALPHA}, [hold_tells("host-b", use(GAMMA))])) == {ALPHA}
    beside_it = StorageUse(guest_uuid=GAMMA, guest="c", target="vda", writes=("lvm LVM-other ",), within=(WHOLE,))
    assert faults_since(both, {ALPHA}, [hold_tells("host-b", beside_it)]) == {}


def test_only_disks_with_a_name_on_every_host_may_be_another_host_s() -> None:
    of_alpha, of_beta = ("host-a", ALPHA, "vdb", True), ("host-b", BETA, "vda", False)
    assert list(captured_disks(BOTH, {ALPHA, BETA})) == [of_alpha, of_beta]
    assert list(captured_disks(BOTH, {BETA})) == [of_beta]


@pytest.mark.parametrize(
    "key", ["network nfs store:2049 /export/i.img", "network rbd cluster pool/image", "network inode 7 of lvm LVM-x "]
)
def test_a_file_or_image_that_two_hosts_know_by_one_name_is_shared(key: str) -> None:
    """Its identity says nothing of that: each host has told it with the uses of its guests."""
    image = Layer(kind="file", place="/vm/i.img", facts={"path": "/vm/i.img", "inode": "1"})
    other = image.model_copy(update={"place": "/mnt/i.img", "facts": {"path": "/mnt/i.img", "inode": "2"}})
    results = [
        prepared(host, guest, storage).model_copy(
            update={"uses": (StorageUse(guest_uuid=guest, guest="x", target="vdb", shows=(key,), writes=(key,)),)}
        )
        for host, guest, storage in (("host-a", ALPHA, image), ("host-b", BETA, other))
    ]
    assert set(shared_faults(results)) == {ALPHA, BETA}
    assert set(faults_since(results[:1], {ALPHA}, [hold_tells("host-b", *results[1].uses)])) == {ALPHA}
