"""What an audit has found reaches the caller, the manifest, the metrics and the next plan."""

from __future__ import annotations

from prometheus_client import REGISTRY

from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult, TransferResult
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import find_parents
from orchestrator import metrics
from orchestrator.inherited import warnings_of
from orchestrator.planner import parent_disks
from tests.unit.repository.samples import GUEST, capture_id, disk_capture, manifest_of

CAPTURE, OLDER = "01KAAAAAAAAAAAAAAAAAAAAAAA", "01K99999999999999999999999"


def prepared(*targets: str) -> PrepareResult:
    disks = tuple(
        PreparedDisk(
            target=target,
            source="/i",
            source_format="qcow2",
            size_bytes=1,
            kind=CaptureKind.INCREMENTAL,
            parent_capture_id=OLDER,
            parent_index="ab" * 32,
        )
        for target in targets
    )
    guest = PreparedGuest(guest_uuid=GUEST, name="web", disks=disks)
    return PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=(guest,))


def read(target: str, *, differs: bool = False) -> TransferResult:
    return TransferResult(
        capture_id=CAPTURE,
        host_id="host-a",
        guest_uuid=GUEST,
        target=target,
        audited_chunks=16,
        inherited_differs=differs,
    )


def test_guest_disk_and_older_capture_are_named() -> None:
    results = [read("vda"), read("vdb", differs=True)]
    [(guest_uuid, text)] = warnings_of([prepared("vda", "vdb")], results)
    assert guest_uuid == GUEST
    assert f"Disk vdb of guest web is not what capture {OLDER} has of it" in text
    assert f"`freezeframe verify {OLDER}`" in text


def test_nothing_is_told_of_disks_that_are_what_they_were() -> None:
    assert warnings_of([prepared("vda")], [read("vda")]) == []


def test_audits_are_counted() -> None:
    def counts() -> list[float | None]:
        names = ("freezeframe_audited_chunks_total", "freezeframe_audit_failures_total")
        return [REGISTRY.get_sample_value(name) for name in names]

    before = counts()
    metrics.audited([read("vda"), read("vdb", differs=True)])
    assert [(now or 0) - (then or 0) for now, then in zip(counts(), before, strict=True)] == [32, 1]


def test_a_marked_capture_is_planned_as_suspect_and_the_guests_other_disks_are_not() -> None:
    disks = [
        disk_capture("ab" * 32, 4096, checkpoint="cp"),
        disk_capture("cd" * 32, 4096, checkpoint="cp", target="vdb"),
    ]
    marked = {(capture_id(1), "cd" * 32)}
    found = parent_disks(find_parents([manifest_of(1, *disks)], GUEST), lambda *disk: disk in marked)
    assert {one.target: one.parent.suspect for one in found} == {"vda": False, "vdb": True}
