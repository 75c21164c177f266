"""The receipt tells all that a caller without the repository needs: who was held, and what was left out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from freezeframe.contract.plan import LeftOutGuest, Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import SkippedDisk
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Method, Policy, RunState
from freezeframe.repository import GuestCapture, Instant, Manifest
from orchestrator.receipt import receipt_of
from orchestrator.run import Run

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(state: RunState) -> Run:
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True)
    return Run(capture_id=CAPTURE, request=request, asked_at=NOW, state=state, entered_at=NOW, due_at=NOW)


def manifest(*skipped: SkippedDisk) -> Manifest:
    guest = GuestCapture(
        guest_uuid="00000000-0000-4000-8000-00000000000a",
        name="alpha",
        host_id="host-a",
        domain_xml="<domain/>",
        consistency=Consistency.GROUP,
        hold_ms=52.5,
        disks=(),
        skipped=skipped,
    )
    return Manifest(
        capture_id=CAPTURE,
        created_at=NOW,
        instant=Instant(at=NOW),
        hold=HoldKind.FREEZE,
        policy=Policy.ALL,
        consistency=Consistency.GROUP,
        kind=CaptureKind.FULL,
        guests=(guest,),
        proof=None,
    )


def test_a_sealed_capture_names_the_disks_that_it_does_not_have() -> None:
    receipt = receipt_of(run(RunState.DONE), NOW, manifest(SkippedDisk(target="sda", reason="it is a CD-ROM")), [])
    assert [(disk.guest, disk.target, disk.reason) for disk in receipt.skipped_disks] == [
        ("alpha", "sda", "it is a CD-ROM")
    ]
    assert [(guest.guest, guest.hold_ms) for guest in receipt.guests] == [("alpha", 52.5)]
    assert receipt.consistency is Consistency.GROUP


@pytest.mark.case("P6")
def test_guests_that_were_left_out_are_named_sealed_or_not() -> None:
    beta = LeftOutGuest(guest="beta", host="host-a", reason="it is paused")
    plan = Plan(
        capture_id=CAPTURE,
        epoch=1,
        method=Method.BACKUP_PULL,
        chunk_bytes=4096,
        repository_id="r",
        hosts=(),
        left_out=(beta,),
    )
    for state, made in ((RunState.DONE, manifest()), (RunState.FAILED, None)):
        assert receipt_of(run(state).model_copy(update={"plan": plan}), NOW, made, []).left_out == (beta,)


@pytest.mark.case("P1")
def test_the_warnings_of_guests_are_told_before_the_run_s() -> None:
    made = manifest()
    guest = made.guests[0].model_copy(update={"warnings": ("Disk vdb of guest alpha is not kept still.",)})
    ended = run(RunState.DONE).model_copy(update={"warnings": (guest.warnings[0], "not undone")})
    receipt = receipt_of(ended, NOW, made.model_copy(update={"guests": (guest,)}), [])
    assert receipt.warnings == ("Disk vdb of guest alpha is not kept still.", "not undone")


def test_what_was_not_sealed_left_nothing_out() -> None:
    receipt = receipt_of(run(RunState.FAILED), NOW, None, [])
    assert (receipt.guests, receipt.skipped_disks, receipt.consistency) == ((), (), None)
