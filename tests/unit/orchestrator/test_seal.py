"""The manifest has of each guest all that prepare told, and what the transfer found."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import (
    HeldGuestWarning,
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    TransferResult,
)
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Method, RunState
from freezeframe.repository import GuestCapture
from orchestrator.run import Run
from orchestrator.seal import manifest_of
from tests.unit.orchestrator.telling import definitions_of

CAPTURE, OLDER = (f"01K{letter * 23}" for letter in "BA")
ALPHA, BETA = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FREEZE = GuestHold(kind=HoldKind.FREEZE)
MOVING = "Disk vdb of guest alpha is not kept still."


def run() -> Run:
    plan = Plan(
        capture_id=CAPTURE,
        epoch=1,
        method=Method.BACKUP_PULL,
        chunk_bytes=4096,
        repository_id="r",
        hosts=(HostPlan(host_id="host-a", guests=(GuestPlan(guest_uuid=ALPHA, name="alpha", hold=FREEZE),)),),
    )
    return Run(
        capture_id=CAPTURE,
        request=CaptureRequest(capture_id=CAPTURE, every_guest=True),
        asked_at=NOW,
        state=RunState.SEALING,
        plan=plan,
        entered_at=NOW,
        due_at=NOW,
        members=("host-a",),
        kept=(ALPHA,),
    )


def sealed(
    prepared: PreparedGuest,
    *,
    moving: tuple[str, ...] = (),
    inherited_differs: bool = False,
    warned: tuple[str, ...] = (),
    writers_unseen: str = "",
) -> GuestCapture:
    guest = GuestProof(
        guest_uuid=ALPHA,
        hold=FREEZE,
        moving_disks=moving,
        frozen_filesystems=1,
        hold_start_ns=1,
        held_ns=2,
        begun_ns=3,
        thaw_start_ns=6,
        thawed_ns=7,
    )
    held = HoldResult(
        capture_id=CAPTURE,
        host_id="host-a",
        proof=HostProof(host_id="host-a", boot_id="b", report_ns=4, woken_ns=5, guests=(guest,)),
        arrived_us=1,
        release_us=1,
        release_arrivals=1,
        guest_warnings=tuple(HeldGuestWarning(guest_uuid=uuid, text=text) for text in warned for uuid in (BETA, ALPHA)),
    )
    read = TransferResult(
        capture_id=CAPTURE,
        host_id="host-a",
        guest_uuid=ALPHA,
        target="vda",
        index="0" * 64,
        inherited_differs=inherited_differs,
        writers_unseen=writers_unseen,
    )
    results = [PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=(prepared,))]
    return manifest_of(run(), results, [held], [read], (), definitions_of(*results)).guests[0]


def guest(**changes: object) -> PreparedGuest:
    disk = PreparedDisk(
        target="vda",
        source="/a",
        source_format="qcow2",
        size_bytes=4096,
        kind=CaptureKind.INCREMENTAL,
        parent_capture_id=OLDER,
        parent_index="1" * 64,
        parent_checkpoint="freezeframe.r.older",
    )
    return PreparedGuest.model_validate({"guest_uuid": ALPHA, "name": "alpha", "disks": (disk,), **changes})


@pytest.mark.case("P5", "G8")
def test_both_definitions_and_the_autostart_are_stored() -> None:
    made = sealed(guest(domain_xml="<stored/>", live_xml="<live/>", autostart=True))
    assert (made.domain_xml, made.live_xml, made.autostart) == ("<stored/>", "<live/>", True)


@pytest.mark.case("P1")
@pytest.mark.parametrize("differs", [True, False])
def test_what_prepare_warned_of_is_kept_whatever_the_audit_found(differs: bool) -> None:  # noqa: FBT001
    made = sealed(guest(warnings=(MOVING,)), moving=("vdb",), inherited_differs=differs)
    assert made.warnings[0] == MOVING
    assert len(made.warnings) == 1 + differs
    assert made.consistency is Consistency.CRASH


@pytest.mark.case("P1")
def test_a_guest_s_own_warnings_of_the_hold_are_kept_beside_the_others() -> None:
    """Each of them is there for another guest too, which is not its own."""
    made = sealed(guest(warnings=(MOVING,)), moving=("vda", "vdb"), warned=("Disk vda of it is not kept still.",))
    assert made.warnings == (MOVING, "Disk vda of it is not kept still.")


@pytest.mark.case("P2")
@pytest.mark.parametrize("moving", [(), ("vda",), ("vdb",)])
def test_a_disk_whose_writers_could_not_be_seen_while_it_was_read_is_labelled_so(moving: tuple[str, ...]) -> None:
    assert sealed(guest()).consistency is Consistency.GROUP
    made = sealed(guest(), moving=moving, writers_unseen="It could not be seen.")
    assert (made.consistency, made.warnings) == (Consistency.CRASH, ("It could not be seen.",))
