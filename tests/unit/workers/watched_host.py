"""A host with open backups of ours: what prepare, hold and transfers leave there, and libvirt as the watcher sees it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.result import HoldResult, TransferResult
from freezeframe.contract.words import HoldKind, Step
from workers import durable
from workers.host import Host
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.journal import (
    BackupChange,
    CaptureJournal,
    ClaimChange,
    FreedChange,
    ReservationChange,
    ScratchChange,
)
from workers.scratch.watcher import Watcher

MIB = 1 << 20
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA, GAMMA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abc")
NAMES = {ALPHA: "alpha", BETA: "beta", GAMMA: "gamma"}
TARGETS = ("vda", "vdb")


def export_socket(host: Host, uuid: str) -> Path:
    """Where the guest's backup is served, as its journal says."""
    return host.settings.libvirt_run_dir / uuid / f"{CAPTURE}.sock"


@dataclass
class Libvirt:
    """Stands in for libvirt: which guests have a backup of ours, and what ended."""

    host: Host
    running: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)
    hung: dict[str, threading.Event] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def domain(self, uuid: str) -> SimpleNamespace:
        if uuid in self.gone:
            raise GuestGoneError("It is not here.")
        return SimpleNamespace(uuid=uuid, active=lambda: True)

    def end(self, domain: SimpleNamespace, socket: Path) -> bool:
        assert socket == export_socket(self.host, domain.uuid)
        if domain.uuid in self.hung:
            self.hung[domain.uuid].wait()
        if domain.uuid in self.refused:
            raise HypervisorError("libvirtd is away")
        self.ended.append(NAMES[domain.uuid])
        found = domain.uuid in self.running - self.lost
        self.running.discard(domain.uuid)
        return found

    def is_lost(self, domain: SimpleNamespace) -> bool:
        return domain.uuid in self.lost


def journal(host: Host) -> CaptureJournal:
    return host.journal.of(CAPTURE)


def begin(host: Host, libvirt: Libvirt, uuid: str) -> None:
    """What prepare and hold leave on the host for a guest with two disks."""
    host.claims.take(uuid, CAPTURE)
    own = journal(host)
    own.record(ClaimChange(guest_uuid=uuid))
    own.record(ReservationChange(guest_uuid=uuid, guest=NAMES[uuid], needed_bytes=300 * MIB, targets=TARGETS))
    for target in TARGETS:
        path = host.scratch_file(CAPTURE, uuid, target)
        durable.make_directory(path.parent)
        own.record(ScratchChange(guest_uuid=uuid, path=path))
        path.touch()
    socket = export_socket(host, uuid)
    own.record(BackupChange(guest_uuid=uuid, socket=socket, checkpoint=None, repository_id="r"))
    libvirt.running.add(uuid)


def held(host: Host, *uuids: str, late: tuple[str, ...] = ()) -> None:
    """The hold is over; these guests began, and `late` ones did not."""
    guests = tuple(
        GuestProof(
            guest_uuid=uuid,
            hold=GuestHold(kind=HoldKind.FREEZE),
            hold_start_ns=1,
            begun_ns=None if uuid in late else 2,
        )
        for uuid in (*uuids, *late)
    )
    result = HoldResult(
        capture_id=CAPTURE, host_id="host-a", proof=HostProof(host_id="host-a", boot_id="b", guests=guests)
    )
    journal(host).store_result(Step.HOLD, "", result.model_dump_json())


def transferred(host: Host, uuid: str, *targets: str, fault: Fault | None = None) -> None:
    for target in targets:
        result = TransferResult(capture_id=CAPTURE, host_id="host-a", guest_uuid=uuid, target=target, fault=fault)
        journal(host).store_result(Step.TRANSFER, f"{uuid}.{target}", result.model_dump_json())


def grow(host: Host, uuid: str, mib: int) -> None:
    with host.scratch_file(CAPTURE, uuid, "vda").open("ab") as file:
        file.write(b"x" * mib * MIB)


def look(watcher: Watcher, at_s: float) -> None:
    watcher.look(at_s)
    watcher.wait()


def freed(host: Host) -> list[str]:
    return [NAMES[change.guest_uuid] for change in journal(host).changes() if isinstance(change, FreedChange)]
