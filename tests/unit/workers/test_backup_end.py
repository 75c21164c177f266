"""A backup has ended when `end` returns, also where libvirt's event thread waits for something else; others are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest

from workers.hypervisor import backup
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError

OURS, THEIRS = Path("/run/freezeframe/ours.sock"), Path("/run/another.sock")
COPY = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
BACKUP = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP


class NoBackupError(libvirt.libvirtError):  # type: ignore[misc]  # libvirt has no types
    """As libvirt's own; one that is made by hand has no code."""

    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_DOMAIN_BACKUP)

    def get_error_domain(self) -> int:
        return int(libvirt.VIR_FROM_QEMU)

    def get_error_message(self) -> str:
        return "no domain backup job present"


class Handle:
    """What libvirt knows: it takes notice of a disk's end `looks` looks after it was told, or when it is nudged."""

    def __init__(self, disks: dict[str, int], socket: Path = OURS, looks: float = 0) -> None:
        self.running = set(disks)
        self.kinds = disks
        self.socket = socket
        self.looks_left = looks
        self.aborted = False
        self.block_aborted: list[str] = []

    def UUIDString(self) -> str:  # noqa: N802  libvirt's name
        return "00000000-0000-4000-8000-00000000000a"

    def name(self) -> str:
        return "alpha"

    def isActive(self) -> int:  # noqa: N802
        return 1

    def backupGetXMLDesc(self) -> str:  # noqa: N802
        if self.aborted:
            self.looks_left -= 1
        if not self.running or (self.aborted and self.looks_left < 0):
            raise NoBackupError("gone")
        disks = [backup.BackupDisk(target, Path("/scratch")) for target in self.kinds]
        return backup.backup_xml(self.socket, disks, ["vdz"])

    def abortJob(self) -> None:  # noqa: N802
        self.aborted = True

    def blockJobInfo(self, target: str) -> dict[str, Any]:  # noqa: N802
        return {"type": self.kinds[target]} if self.kinds[target] else {}

    def blockJobAbort(self, target: str) -> None:  # noqa: N802
        self.block_aborted.append(target)
        self.running.discard(target)
        raise libvirt.libvirtError("block job is still being ended")


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "LOOK_S", 0)


NEVER = float("inf")


def test_it_waits_until_the_backup_has_ended() -> None:
    handle = Handle({"vda": BACKUP}, looks=3)
    assert backup.end(Domain(handle), OURS)
    assert handle.looks_left < 0


def test_libvirt_is_nudged_for_each_disk_when_it_takes_no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "NUDGE_AFTER_S", 0)
    handle = Handle({"vda": BACKUP, "vdb": 0}, looks=NEVER)  # QEMU does not list a job that has ended
    assert backup.end(Domain(handle), OURS)
    assert sorted(set(handle.block_aborted)) == ["vda", "vdb"]


def test_a_job_of_another_kind_is_not_nudged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "NUDGE_AFTER_S", 0)
    handle = Handle({"vda": BACKUP, "vdb": COPY}, looks=1000)
    assert backup.end(Domain(handle), OURS)
    assert set(handle.block_aborted) == {"vda"}


def test_one_that_does_not_end_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "END_S", 0)
    with pytest.raises(HypervisorError, match="has not ended"):
        backup.end(Domain(Handle({"vda": BACKUP}, looks=NEVER)), OURS)


def test_anothers_backup_is_left_alone() -> None:
    handle = Handle({"vda": BACKUP}, socket=THEIRS)
    assert not backup.end(Domain(handle), OURS)
    assert not handle.aborted


def test_two_that_end_it_at_once_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher and a release: the second finds the job gone when it asks for its end."""
    handle = Handle({"vda": BACKUP})

    def gone() -> None:
        handle.running.clear()
        raise NoBackupError("gone")

    monkeypatch.setattr(handle, "abortJob", gone)
    assert backup.end(Domain(handle), OURS)


def test_a_refusal_to_end_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Handle({"vda": BACKUP})

    def refuse() -> None:
        raise NoBackupError("no")

    monkeypatch.setattr(handle, "abortJob", refuse)
    with pytest.raises(HypervisorError, match="Ending the backup"):
        backup.end(Domain(handle), OURS)
