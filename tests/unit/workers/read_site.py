"""A host that reads a disk, with the guests that run beside it: for tests of second writers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import TransferResult
from freezeframe.contract.words import CaptureKind
from workers.host import Host
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.hypervisor.fake_guest import UUID, FakeGuest, domain_xml
from workers.steps import table

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER = "00000000-0000-4000-8000-00000000000b"


def guest(uuid: str, *disks: str) -> FakeGuest:
    name = {UUID: "alpha", OTHER: "beta"}[uuid]
    return FakeGuest(domain_xml(*disks, name=name, uuid=uuid), uuid=uuid, label=name)


@dataclass
class Machine:
    """The guests that run on the host, and what happens while the disk is read."""

    running: list[FakeGuest]
    meanwhile: Callable[[], None] = lambda: None
    away: HypervisorError | None = None
    asked: list[str] = field(default_factory=list)

    def domains(self) -> list[Domain]:
        self.asked.append("all")
        if self.away:
            raise self.away
        return [Domain(one) for one in self.running]

    def domain(self, uuid: str) -> Domain:
        self.asked.append("one")
        if self.away:
            raise self.away
        for one in self.running:
            if one.uuid == uuid:
                return Domain(one)
        raise GuestGoneError("It is not here.")

    def read(self, host: Host, asked: TransferOrder) -> TransferResult:
        assert "all" not in self.asked  # it would not see who comes meanwhile
        self.meanwhile()
        return TransferResult(
            capture_id=asked.capture_id,
            host_id=host.host_id,
            guest_uuid=asked.guest_uuid,
            target=asked.target,
            index="0" * 64,
        )


def order(target: str = "vda") -> TransferOrder:
    return TransferOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        guest_uuid=UUID,
        guest_name="alpha",
        target=target,
        size_bytes=1,
        chunk_bytes=4096,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )


def stored(host: Host, target: str = "vda") -> TransferResult:
    return table.TRANSFER.do(host, order(target))
