"""Guests on two hosts with one disk are refused before any guest is held, and never because two paths look alike (P2)."""

from __future__ import annotations

from typing import Any

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind
from freezeframe.errors import EXIT_REFUSED
from orchestrator.sharing import shared_faults

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
    assert "--skip-disk 'guest a:vdb'" in alpha.advice


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


def test_a_guest_that_was_refused_is_in_nobody_s_way() -> None:
    """It is not held, so what it writes to is no part of the capture."""
    refused = prepared("host-b", BETA, LUN)
    fault = Fault(code="no-agent", message="The agent does not answer.")
    guest = refused.guests[0].model_copy(update={"fault": fault})
    assert shared_faults([prepared("host-a", ALPHA, LUN), refused.model_copy(update={"guests": (guest,)})]) == {}


def test_a_disk_of_which_nothing_is_known_is_not_compared() -> None:
    unknown = [prepared("host-a", ALPHA, LUN), prepared("host-b", BETA, LUN)]
    for number, result in enumerate(unknown):
        disk = result.guests[0].disks[0].model_copy(update={"identity": None})
        guest = result.guests[0].model_copy(update={"disks": (disk,)})
        unknown[number] = result.model_copy(update={"guests": (guest,)})
    assert shared_faults(unknown) == {}
