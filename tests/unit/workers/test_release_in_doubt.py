"""A release order of an orchestrator that does not know whether the capture is sealed: nothing that may be needed is undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.contract.order import ReleaseOrder
from freezeframe.contract.words import HoldKind
from freezeframe.repository import Repository
from tests.unit.repository.samples import CHUNK, disk_capture, disk_of, manifest_of, store_disk
from tests.unit.told_run import tell_run
from workers.host import Host
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain
from workers.journal import BackupChange, ClaimChange, HoldChange, ScratchChange
from workers.recovery import Recovered, State, recover
from workers.steps.release import release


@pytest.mark.parametrize("is_sealed", [True, False])
def test_the_guest_goes_on_and_its_checkpoint_and_claim_wait_for_recovery(
    host: Host, monkeypatch: pytest.MonkeyPatch, *, is_sealed: bool
) -> None:
    repository = Repository.init(host.repository, chunk_bytes=CHUNK)
    guest = host.hypervisor.domains()[0].uuid
    disk = disk_of(b"a", b"")
    index = store_disk(repository, disk, checkpoint="c")
    manifest = manifest_of(1, disk_capture(index, len(disk), checkpoint="c"), guest=guest)
    capture = manifest.capture_id
    journal = host.journal.of(capture)
    settled: list[bool] = []
    ended: list[Path] = []

    def end(domain: Domain, socket: Path) -> bool:
        assert domain.uuid == guest
        ended.append(socket)
        return True

    monkeypatch.setattr(backup, "end", end)
    monkeypatch.setattr("workers.steps.undo.settle", lambda *_, sealed, ended: settled.append(sealed))
    scratch, socket = host.settings.state_dir / "scratch.qcow2", Path("/run/freezeframe/one.sock")
    scratch.touch()
    host.claims.take(guest, capture)
    journal.record(ClaimChange(guest_uuid=guest))
    journal.record(ScratchChange(guest_uuid=guest, path=scratch))
    journal.record(BackupChange(guest_uuid=guest, socket=socket, checkpoint="c", repository_id="r"))
    journal.record(HoldChange(guest_uuid=guest, hold=HoldKind.PAUSE))
    host.hypervisor.domain(guest).pause()
    later = datetime.now(UTC) + timedelta(minutes=1)
    order = ReleaseOrder(capture_id=capture, epoch=1, host_id="host-a", not_after=later, sealed_guests=None)
    for _ in range(2):
        assert release(host, order).warnings == ()
        assert (host.hypervisor.domain(guest).state(), scratch.exists(), settled) == ("running", False, [])
        assert (set(ended), host.claims.holder(guest), journal.ended) == ({socket}, capture, False)
    if is_sealed:
        repository.write_manifest(manifest)
    tell_run(host.redis, capture, "failed")
    assert recover(host) == [Recovered(capture, State.UNDONE)]
    assert (settled, host.claims.holder(guest), journal.ended) == ([is_sealed], None, True)


def test_an_order_in_doubt_is_told_from_one_that_nothing_was_sealed_of() -> None:
    later = datetime.now(UTC)
    order = ReleaseOrder(capture_id="0" * 26, epoch=1, host_id="host-a", not_after=later, sealed_guests=None)
    assert ReleaseOrder.model_validate(order.model_dump(mode="json")).sealed_guests is None
    assert (
        order.model_dump(mode="json")["sealed_guests"] is None
    )  # never left out: left out means that nothing was sealed
