"""Scratch files: promised and in the journal before they are made, and QEMU's alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from freezeframe.contract.result import PreparedDisk
from freezeframe.contract.words import CaptureKind
from workers.host import Host
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import UUID, FakeGuest
from workers.journal import ClaimChange, ReservationChange, ScratchChange
from workers.scratch import account
from workers.scratch.errors import ScratchSpaceError
from workers.scratch.files import make_files

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
MIB = 1 << 20


def disk(target: str, source: str = "/images/a.qcow2", checkpoint: str | None = None) -> PreparedDisk:
    return PreparedDisk(
        target=target,
        kind=CaptureKind.FULL,
        size_bytes=100 * MIB,
        source=source,
        source_format="qcow2",
        checkpoint=checkpoint,
    )


@pytest.fixture
def domain() -> Domain:
    return Domain(FakeGuest(""))


def make(host: Host, domain: Domain, *disks: PreparedDisk) -> None:
    host.claims.take(domain.uuid, CAPTURE)
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid=domain.uuid))
    make_files(host, host.journal.of(CAPTURE), domain, disks)


def test_each_disk_has_a_file_that_is_in_the_journal_and_readable_to_nobody_else(host: Host, domain: Domain) -> None:
    make(host, domain, disk("vda"), disk("vdb"))
    paths = [host.scratch_file(CAPTURE, UUID, target) for target in ("vda", "vdb")]
    changes = host.journal.of(CAPTURE).changes()
    assert [change.path for change in changes if isinstance(change, ScratchChange)] == paths
    for path in paths:
        info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path]))
        assert (info["format"], info["virtual-size"]) == ("qcow2", 100 * MIB)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o711  # QEMU's user passes through
    assert host.settings.scratch_dir.stat().st_mode & 0o777 == 0o711


def test_the_room_of_all_disks_is_promised_before_any_file_is_made(host: Host, domain: Domain) -> None:
    make(host, domain, disk("vda"), disk("vdb"))
    _, reservation, *files = host.journal.of(CAPTURE).changes()
    assert isinstance(reservation, ReservationChange)
    assert reservation.needed_bytes == account.needed_bytes([100 * MIB] * 2, host.settings.scratch_share)
    assert reservation.targets == ("vda", "vdb")
    assert len(files) == 2


def test_without_room_there_is_no_file(host: Host, domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(ScratchSpaceError):
        make(host, domain, disk("vda"))
    assert list(host.settings.scratch_dir.rglob("*.*")) == []
    assert host.journal.of(CAPTURE).changes() == [ClaimChange(guest_uuid=UUID)]


def test_images_that_a_new_bitmap_may_be_stored_in_are_named(host: Host, domain: Domain) -> None:
    make(
        host,
        domain,
        disk("vda", "/images/a.qcow2", "c"),
        disk("vdb", "rbd:pool/b", "c"),  # no file of this host
        disk("vdc", "/images/c.raw"),  # no checkpoint: no bitmap
    )
    [reservation] = [change for change in host.journal.of(CAPTURE).changes() if isinstance(change, ReservationChange)]
    assert reservation.images == (Path("/images/a.qcow2"),)


def test_a_file_that_cannot_be_made_names_disk_guest_and_reason(host: Host, domain: Domain) -> None:
    host.scratch_file(CAPTURE, UUID, "vda").mkdir(parents=True)
    with pytest.raises(ScratchSpaceError, match=rf"disk vda of guest {domain.name} cannot be made: .*directory"):
        make(host, domain, disk("vda"))
    changes = host.journal.of(CAPTURE).changes()
    assert [type(change) for change in changes] == [ClaimChange, ReservationChange, ScratchChange]  # to be undone
