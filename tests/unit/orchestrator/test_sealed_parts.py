"""The manifest: which guests are in it, what each disk builds upon, and when the instant was."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.result import HoldResult, PreparedDisk, PreparedGuest, PrepareResult, TransferResult
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import DiskCapture, Manifest
from orchestrator.clocks import dated_anew
from orchestrator.run import Run
from orchestrator.seal import APART, manifest_of
from tests.unit.orchestrator.telling import definitions_of
from tests.unit.orchestrator.test_seal import ALPHA, CAPTURE, FREEZE, NOW, OLDER, run

BETA = "00000000-0000-4000-8000-00000000000b"
PARENT = "1" * 64
GONE = Fault(code="guest-gone", message="It is not here.")


def disk(target: str = "vda", **changes: Any) -> PreparedDisk:
    usual = {"target": target, "source": "/a", "source_format": "qcow2", "size_bytes": 4096, "kind": CaptureKind.FULL}
    return PreparedDisk.model_validate(usual | changes)


def incremental(target: str = "vda") -> PreparedDisk:
    return disk(target, kind=CaptureKind.INCREMENTAL, parent_capture_id=OLDER, parent_index=PARENT)


def prepared(host_id: str, guest_uuid: str, *disks: PreparedDisk, fault: Fault | None = None) -> PrepareResult:
    guest = PreparedGuest(guest_uuid=guest_uuid, name=guest_uuid[-1], disks=disks, fault=fault)
    return PrepareResult(capture_id=CAPTURE, host_id=host_id, guests=(guest,))


def held(*guests: str, release_us: int | None = 1) -> HoldResult:
    steps = {"hold_start_ns": 1, "held_ns": 2, "begun_ns": 3, "thaw_start_ns": 6, "thawed_ns": 7}
    proven = tuple(
        GuestProof.model_validate({"guest_uuid": one, "hold": FREEZE, "frozen_filesystems": 1, **steps})
        for one in guests
    )
    host = HostProof(host_id="host-a", boot_id="b", report_ns=4, woken_ns=5, guests=proven)
    return HoldResult(capture_id=CAPTURE, host_id="host-a", proof=host, release_us=release_us)


def read(guest_uuid: str, target: str = "vda", **changes: Any) -> TransferResult:
    usual = {"capture_id": CAPTURE, "host_id": "host-a", "guest_uuid": guest_uuid, "target": target, "index": "0" * 64}
    return TransferResult.model_validate(usual | changes)


def made(
    one: Run, results: Sequence[PrepareResult], reads: Sequence[TransferResult], release_us: int | None = 1
) -> Manifest:
    return manifest_of(one, results, [held(ALPHA, BETA, release_us=release_us)], reads, (), definitions_of(*results))


def only_disk(found: Manifest) -> DiskCapture:
    [guest] = found.guests
    [capture] = guest.disks
    return capture


def test_an_incremental_disk_names_what_it_builds_upon() -> None:
    found = made(run(), [prepared("host-a", ALPHA, incremental())], [read(ALPHA)])
    capture = only_disk(found)
    assert (capture.kind, capture.full_reason) == (CaptureKind.INCREMENTAL, None)
    assert (capture.parent_capture_id, capture.parent_index) == (OLDER, PARENT)
    assert capture.chunk_bytes == 4096


def test_a_disk_that_had_to_be_read_in_full_builds_upon_nothing() -> None:
    """It was prepared as an increment, and the transfer found that it cannot be one."""
    found = made(
        run(), [prepared("host-a", ALPHA, incremental())], [read(ALPHA, full_reason="its parent is not what it was")]
    )
    capture = only_disk(found)
    assert (capture.kind, capture.full_reason) == (CaptureKind.FULL, "its parent is not what it was")
    assert (capture.parent_capture_id, capture.parent_index) == (None, None)
    assert found.kind is CaptureKind.FULL


def test_why_prepare_chose_a_full_capture_is_kept() -> None:
    found = made(run(), [prepared("host-a", ALPHA, disk(full_reason="it is the first"))], [read(ALPHA)])
    assert only_disk(found).full_reason == "it is the first"


@pytest.mark.parametrize(
    ("disks", "kind"),
    [
        ((incremental("vda"), incremental("vdb")), CaptureKind.INCREMENTAL),
        ((incremental("vda"), disk("vdb")), CaptureKind.FULL),
        ((disk("vda"), disk("vdb")), CaptureKind.FULL),
        ((), CaptureKind.FULL),
    ],
)
def test_a_capture_is_incremental_if_every_disk_is(disks: tuple[PreparedDisk, ...], kind: CaptureKind) -> None:
    reads = [read(ALPHA, one.target) for one in disks]
    assert made(run(), [prepared("host-a", ALPHA, *disks)], reads).kind is kind


def test_a_guest_is_in_it_once_from_the_host_that_prepared_it_and_only_if_it_was_kept() -> None:
    results = [
        prepared("host-a", ALPHA, fault=GONE),  # it had moved
        prepared("host-b", ALPHA, disk()),
        prepared("host-a", BETA, disk()),  # its transfer was lost
    ]
    found = made(run(), results, [read(ALPHA)])
    assert [(guest.guest_uuid, guest.host_id) for guest in found.guests] == [(ALPHA, "host-b")]


def test_an_audit_s_warning_is_told_of_its_own_guest_alone() -> None:
    both = run().model_copy(update={"kept": (ALPHA, BETA)})
    results = [prepared("host-a", ALPHA, incremental()), prepared("host-a", BETA, incremental())]
    found = made(both, results, [read(ALPHA, inherited_differs=True), read(BETA)])
    assert [len(guest.warnings) for guest in found.guests] == [1, 0]


ENTERED = NOW + timedelta(hours=1)
MIDDLE = NOW + timedelta(minutes=1)


@pytest.mark.case("S7")
@pytest.mark.parametrize(
    ("released", "at"),
    [
        (MIDDLE, MIDDLE),
        (None, ENTERED),
        (NOW - APART, NOW - APART),
        (NOW - timedelta(days=400), NOW - APART),
        (ENTERED + APART, ENTERED + APART),
        (ENTERED + timedelta(days=400), ENTERED + APART),
    ],
)
def test_the_instant_is_the_release_and_never_far_from_the_run(released: datetime | None, at: datetime) -> None:
    """Redis's clock may have been set in between; `latest` and retention go by this moment."""
    one = run().model_copy(update={"entered_at": ENTERED})
    release_us = None if released is None else round(released.timestamp() * 1e6)
    found = made(one, [prepared("host-a", ALPHA, disk())], [read(ALPHA)], release_us)
    assert found.instant.at == at.astimezone(UTC)
    assert found.created_at == ENTERED


@pytest.mark.case("S7")
@pytest.mark.parametrize("released", [MIDDLE, None, ENTERED + timedelta(days=400)])
def test_a_manifest_does_not_change_with_the_clock(released: datetime | None) -> None:
    release_us = None if released is None else round(released.timestamp() * 1e6)
    one = run().model_copy(update={"entered_at": ENTERED})
    found = []
    for now in (ENTERED, ENTERED - timedelta(days=1), ENTERED - timedelta(days=3), ENTERED + timedelta(seconds=1)):
        one = dated_anew(one, now) or one
        found.append(made(one, [prepared("host-a", ALPHA, disk())], [read(ALPHA)], release_us))
    assert found == [found[0]] * 4
