"""Disks that are volumes of storage pools: no bitmap of ours is overlooked in one because its definition has no path."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.workers.test_detach import ORPHAN, OURS, THEIRS, stored, typed
from tests.unit.workers.test_detach_unread import Verb
from workers import detach
from workers.host import Host
from workers.hypervisor import bitmaps, checkpoint
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.errors import HypervisorError, HypervisorUnreachableError
from workers.hypervisor.fake_checkpoints import CheckpointedGuest
from workers.hypervisor.volumes import images_with_bitmaps, located
from workers.steps.settling import remove_orphans

__all__ = ["typed"]

pytestmark = pytest.mark.case("G7")


@pytest.fixture
def off(tmp_path: Path) -> CheckpointedGuest:
    """Its disk was a file when it was captured, and its definition has been changed since."""
    image = stored(tmp_path / "web.qcow2", OURS, ORPHAN, THEIRS)
    return CheckpointedGuest(image, running=False, checkpoints=[OURS], pool="default")


@pytest.fixture
def running(off: CheckpointedGuest) -> CheckpointedGuest:
    """The guest that `typed` finds on the host."""
    return off


def test_a_guest_that_is_off_loses_those_in_its_volumes(host: Host, off: CheckpointedGuest) -> None:
    traces = detach.look(host, off)
    assert traces.bitmaps == {str(off.image): [OURS, ORPHAN]}
    detach.remove(host, off, traces)
    assert (traces.problems, off.checkpoints, bitmaps.in_image(off.image)) == ([], [], [THEIRS])


@pytest.mark.parametrize("is_on", [True, False])
def test_a_volume_that_libvirt_does_not_find_is_told_and_not_called_nothing(
    host: Host, off: CheckpointedGuest, typed: Verb, *, is_on: bool
) -> None:
    off.running, off.pool_is_gone, off.checkpoints, off.pool = is_on, True, [], "my pool"
    code, told = typed("--all", "--dry-run")
    assert code == 10
    assert "Nothing of ours" not in told
    (problem,) = detach.look(host, off).problems
    for part in ("Disk vda", "guest alpha", "volume my pool/web.qcow2", "no storage pool", "detach again"):
        assert part in problem
    assert "`virsh pool-start 'my pool'`" in problem  # works when pasted
    assert ("asks the guest's QEMU" in problem) == is_on


def test_until_its_pool_is_back_its_bitmaps_stay_and_are_told(off: CheckpointedGuest, typed: Verb) -> None:
    off.checkpoints, off.pool_is_gone = [], True
    code, told = typed("--all", "--yes", "--json")
    assert (code, len(json.loads(told)["guests"][0]["problems"])) == (10, 1)
    assert bitmaps.in_image(off.image) == [OURS, ORPHAN, THEIRS]
    off.pool_is_gone = False
    assert typed("--all", "--yes")[0] == 0
    assert bitmaps.in_image(off.image) == [THEIRS]


def test_a_checkpoint_whose_bitmap_may_be_in_a_volume_that_is_not_found_is_not_forgotten(
    off: CheckpointedGuest,
) -> None:
    off.pool_is_gone = True
    with pytest.raises(HypervisorError, match=r"disk vda, cannot be looked for: .*no storage pool") as raised:
        checkpoint.delete(off, OURS)
    assert off.checkpoints == [OURS]
    assert "virsh pool-start default" in str(raised.value.hint)


def test_orphans_in_a_volume_go_before_the_next_capture(tmp_path: Path) -> None:
    image = stored(tmp_path / "web.qcow2", ORPHAN, THEIRS)
    running = CheckpointedGuest(image, memory=[ORPHAN, THEIRS], pool="default", pool_is_gone=True)
    with capture_logs() as logs:
        assert remove_orphans(running, running.disks()) == []
    assert [line["image"] for line in logs] == ["volume web.qcow2 of pool default"]
    running.pool_is_gone = False
    assert remove_orphans(running, running.disks()) == [ORPHAN]


def test_what_is_no_volume_or_can_have_none_is_not_looked_for(off: CheckpointedGuest) -> None:
    (disk,) = off.disks()
    off.pool_is_gone = True
    raw, cdrom = replace(disk, source_format="raw"), replace(disk, device="cdrom")
    file = DomainDisk("vdb", "disk", "file", "/b", "qcow2", transient=False)
    assert images_with_bitmaps(off, [raw, cdrom, file]).found == (("vdb", Path("/b")),)
    assert images_with_bitmaps(off, [raw, cdrom, file]).unlocated == ()
    assert located(off, file) is file


def test_a_volume_of_no_path_has_its_bitmaps_elsewhere(off: CheckpointedGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointedGuest, "volume_path", lambda *_: "rbd/web.qcow2")
    (disk,) = off.disks()
    assert located(off, disk) is disk
    assert images_with_bitmaps(off, [disk]).found == ()


def test_a_libvirt_that_is_away_is_told_as_that(off: CheckpointedGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> str:
        raise HypervisorUnreachableError("libvirtd is away.")

    monkeypatch.setattr(CheckpointedGuest, "volume_path", away)
    with pytest.raises(HypervisorUnreachableError):
        images_with_bitmaps(off, off.disks())


def test_the_first_slash_ends_the_pool_s_name(off: CheckpointedGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointedGuest, "volume_path", lambda _, pool, volume: f"/{pool}:{volume}")
    (disk,) = off.disks()
    assert located(off, replace(disk, source="p/a/b")).source == "/p:a/b"
