"""What is known of disks and guests reaches plans and receipts, on a real Redis and a real repository."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ulid import ULID

from freezeframe import bus, presence
from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import ReleaseResult
from freezeframe.contract.words import RunState, Step
from freezeframe.presence import KnownHost, known_hosts
from freezeframe.repository import Repository, Suspect
from freezeframe.settings import BusSettings, OrchestratorSettings
from orchestrator import planning
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.run import Run, Runs
from tests.unit.orchestrator.telling import tell
from tests.unit.orchestrator.test_inherited import prepared, read
from tests.unit.repository.samples import CHUNK, GUEST, capture_id, disk_capture, disk_of, manifest_of, store_disk

CAPTURE = str(ULID())


@pytest.fixture
def orchestrator(bus_settings: BusSettings, tmp_path: Path) -> Orchestrator:
    client = bus.connect(bus_settings)
    client.flushdb()
    made = Orchestrator(
        app=bus.celery_app("orchestrator", bus_settings),
        redis=client,
        runs=Runs(client, 3600),
        settings=OrchestratorSettings(),
        repository=Repository.init(tmp_path / "repository", chunk_bytes=CHUNK),
    )
    publish(made, "host-a", "running")
    return made


def publish(orchestrator: Orchestrator, host_id: str, state: str) -> None:
    entry = HostEntry(
        host_id=host_id,
        at=datetime.now(UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=(GuestEntry(guest_uuid=GUEST, name="web", state=state),),
    )
    presence.publish(orchestrator.redis, entry)
    orchestrator.redis.persist(names.alive_key(host_id))


def asked(orchestrator: Orchestrator) -> Run:
    take_in(orchestrator, CaptureRequest(capture_id=CAPTURE, guests=("web",)))
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    return loaded[0]


def test_a_disk_that_an_audit_has_marked_is_planned_as_suspect(orchestrator: Orchestrator) -> None:
    repository, disks = orchestrator.repository, []
    for target in ("vda", "vdb"):
        content = disk_of(target.encode())
        index = store_disk(repository, content, checkpoint="cp")
        disks.append(disk_capture(index, len(content), checkpoint="cp", target=target))
    repository.write_manifest(manifest_of(1, *disks))
    mark = Suspect(
        capture_id=capture_id(1),
        index=disks[1].index,
        guest="web",
        target="vdb",
        found_by=capture_id(2),
        found_at=datetime.now(UTC),
        reason="other data",
    )
    repository.suspects.mark(mark)
    plan = asked(orchestrator).plan
    assert plan is not None
    parents = plan.hosts[0].guests[0].parents
    assert {one.target: one.parent.suspect for one in parents} == {"vda": False, "vdb": True}


def test_what_the_audit_found_is_in_the_receipt_whatever_became_of_the_capture(orchestrator: Orchestrator) -> None:
    run = asked(orchestrator)
    answers = {
        names.result_field(Step.PREPARE, "host-a"): prepared("vda", "vdb"),
        names.result_field(Step.TRANSFER, "host-a", f"{GUEST}.vdb"): read("vdb", differs=True),
        names.result_field(Step.RELEASE, "host-a"): ReleaseResult(capture_id=CAPTURE, host_id="host-a"),
    }
    for field, result in answers.items():
        tell(orchestrator.redis, CAPTURE, field, result)
    loaded = orchestrator.runs.load(CAPTURE)
    assert loaded is not None
    releasing = run.model_copy(update={"state": RunState.RELEASING, "dispatched": True})
    assert orchestrator.runs.change(releasing, loaded[1])
    ended = orchestrator.look(CAPTURE)
    assert ended is not None
    assert ended.receipt is not None
    [warning] = ended.receipt.warnings
    assert "Disk vdb of guest web is not what capture" in warning


@pytest.mark.case("I6")
@pytest.mark.parametrize("moved", [True, False])
def test_a_guest_on_two_hosts_is_refused_only_once_both_have_looked_again(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, *, moved: bool
) -> None:
    publish(orchestrator, "host-b", "running")

    def look_again(_read: object, host_ids: Sequence[str]) -> list[KnownHost]:
        assert host_ids == ("host-a", "host-b")
        if moved:
            publish(orchestrator, "host-a", "shut off")
        return known_hosts(orchestrator.redis)

    monkeypatch.setattr(planning, "newer_hosts", look_again)
    run = asked(orchestrator)
    if moved:
        assert run.plan is not None
        assert [one.host_id for one in run.plan.hosts] == ["host-b"]
    else:
        assert [fault.code for fault in run.faults] == ["guest-on-two-hosts"]
        assert "web@host-a or web@host-b" in (run.faults[0].advice or "")
