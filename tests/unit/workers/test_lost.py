"""A backup that libvirt has lost is ended in QEMU, if it is ours, and nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from workers.hypervisor import lost
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError

SCRATCH = Path("/scratch/01K/alpha.vda.qcow2")
OURS = "freezeframe.0123456789ab.01KAAAAAAAAAAAAAAAAAAAAAAA"


def json_file(path: Path) -> str:
    """As QEMU tells the file of a node whose backing file was set by hand."""
    below = {"driver": "file", "filename": str(path)}
    backing = {"driver": "qcow2", "file": {"driver": "file", "filename": "/images/vda.qcow2"}}
    return f"json:{json.dumps({'driver': 'qcow2', 'file': below, 'backing': backing})}"


class Qemu(Domain):
    """A guest's QEMU as its monitor shows it, and what it was told."""

    def __init__(self, *, scratch: Path) -> None:
        self.uuid, self.name = "u", "alpha"
        self.told: list[str] = []
        self.status: str | None = "running"
        self.serving = True
        self.nodes: list[dict[str, Any]] = [
            {"node-name": "9-storage", "drv": "file", "file": str(scratch)},
            {"node-name": "9-format", "drv": "qcow2", "file": json_file(scratch)},
            {"node-name": "2-storage", "drv": "file", "file": "/images/vda.qcow2"},
            {
                "node-name": "2-format",
                "drv": "qcow2",
                "file": "/images/vda.qcow2",
                "dirty-bitmaps": [{"name": name} for name in (OURS, "older", "changed-vda")] + [{"count": 0}],
            },
        ]

    def disks(self) -> list[DomainDisk]:
        return [
            DomainDisk(
                target="vda",
                source="/images/vda.qcow2",
                source_type="file",
                source_format="qcow2",
                device="disk",
                transient=False,
            )
        ]

    def monitor(self, command: str, **arguments: Any) -> Any:
        if command == "query-named-block-nodes":
            return self.nodes
        if command == "query-jobs":
            return [{"id": "j", "type": "backup", "status": self.status}] if self.status else []
        self.told.append(" ".join([command, *map(str, arguments.values())]))
        acts: dict[str, Callable[..., None]] = {
            "job-cancel": self._cancel,
            "job-dismiss": self._dismiss,
            "nbd-server-stop": self._stop_serving,
            "blockdev-del": self._delete_node,
            "block-dirty-bitmap-remove": self._remove_bitmap,
        }
        acts[command](**arguments)
        return {}

    def _cancel(self, **_: str) -> None:
        self.status = "concluded"

    def _dismiss(self, **_: str) -> None:
        self.status = None

    def _stop_serving(self) -> None:
        if not self.serving:
            raise HypervisorError("NBD server not running")
        self.serving = False

    def _delete_node(self, node_name: str) -> None:
        assert self.status is None, "QEMU refuses to delete a node that a job uses"
        self.nodes = [node for node in self.nodes if node["node-name"] != node_name]

    def _remove_bitmap(self, node: str, name: str) -> None:
        (one,) = (one for one in self.nodes if one["node-name"] == node)
        one["dirty-bitmaps"] = [bitmap for bitmap in one["dirty-bitmaps"] if bitmap.get("name") != name]


def test_all_that_is_ours_goes_and_the_rest_stays() -> None:
    qemu = Qemu(scratch=SCRATCH)
    lost.end(qemu, [SCRATCH], OURS)
    assert qemu.told == [
        "job-cancel j",
        "job-dismiss j",
        "nbd-server-stop",
        "blockdev-del 9-format",
        "blockdev-del 9-storage",
        f"block-dirty-bitmap-remove 2-format {OURS}",
        "block-dirty-bitmap-remove 2-format changed-vda",
    ]
    assert [node["node-name"] for node in qemu.nodes] == ["2-storage", "2-format"]


def test_twice_is_once() -> None:
    qemu = Qemu(scratch=SCRATCH)
    lost.end(qemu, [SCRATCH], OURS)
    qemu.told.clear()
    lost.end(qemu, [SCRATCH], OURS)
    assert qemu.told == []


def test_a_server_that_was_not_begun_is_no_obstacle() -> None:
    qemu = Qemu(scratch=SCRATCH)
    qemu.serving, qemu.status = False, None
    lost.end(qemu, [SCRATCH], OURS)
    assert "blockdev-del 9-format" in qemu.told


def test_anothers_lost_backup_is_left_alone() -> None:
    qemu = Qemu(scratch=Path("/elsewhere/vda.scratch"))
    lost.end(qemu, [SCRATCH], OURS)
    assert qemu.told == []


def test_a_sealed_checkpoint_keeps_its_bitmap() -> None:
    qemu = Qemu(scratch=SCRATCH)
    lost.end(qemu, [SCRATCH], None)
    assert OURS in {bitmap.get("name") for bitmap in qemu.nodes[-1]["dirty-bitmaps"]}


def test_a_job_that_does_not_end_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = Qemu(scratch=SCRATCH)
    monkeypatch.setattr("workers.hypervisor.backup.END_S", -1)
    monkeypatch.setattr(lost, "_backup_jobs", lambda _: [{"id": "j", "status": "aborting"}])
    with pytest.raises(HypervisorError, match="has not ended"):
        lost.end(qemu, [SCRATCH], OURS)


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_OPERATION_TIMEOUT])
@pytest.mark.parametrize("socket", [None, Path("/run/a.sock")])
def test_only_a_job_without_its_backup_is_lost(monkeypatch: pytest.MonkeyPatch, code: int, socket: Path | None) -> None:
    """All else that libvirt fails with is no answer, and taken for none."""

    def fails(_: Domain) -> str | None:
        raise HypervisorError("no", libvirt_code=code)

    monkeypatch.setattr(Domain, "job", fails)
    monkeypatch.setattr("workers.hypervisor.backup.current_socket", lambda _: socket)
    qemu = Qemu(scratch=SCRATCH)
    if socket is None and code == libvirt.VIR_ERR_INTERNAL_ERROR:
        assert lost.is_lost(qemu)
    else:
        with pytest.raises(HypervisorError):
            lost.is_lost(qemu)


@pytest.mark.parametrize("job", [None, "backup", "migration"])
def test_a_job_that_libvirt_knows_is_not_lost(monkeypatch: pytest.MonkeyPatch, job: str | None) -> None:
    monkeypatch.setattr(Domain, "job", lambda _: job)
    assert not lost.is_lost(Qemu(scratch=SCRATCH))
