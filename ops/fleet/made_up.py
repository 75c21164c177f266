"""The hosts, guests and disks of a fleet, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.inventory import GuestEntry
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.plan import GuestPlan, ParentDisk
from freezeframe.contract.result import PreparedDisk, PreparedGuest, StorageUse
from freezeframe.contract.words import CaptureKind

#: Characters of a guest's definition: what libvirt tells of one with two disks and a network.
XML_CHARACTERS: Final = 6000
#: Disks differ in their size, so that each has an index of its own.
SIZE_STEP_BYTES: Final = 512


@dataclass(frozen=True)
class MadeUp:
    """`hosts` hosts with `guests_a_host` guests each, of `disks` disks each."""

    hosts: int
    guests_a_host: int = 10
    disks: int = 2

    @property
    def guests(self) -> int:
        return self.hosts * self.guests_a_host

    @cached_property
    def host_ids(self) -> list[str]:
        return [f"host-{number:04}.example" for number in range(self.hosts)]

    @cached_property
    def targets(self) -> list[str]:
        return [f"vd{chr(ord('a') + number)}" for number in range(self.disks)]

    def uuids(self, host_id: str) -> list[str]:
        host = int(host_id[5:9])
        return [f"00000000-0000-4000-8000-{host:06x}{guest:06x}" for guest in range(self.guests_a_host)]

    def entries(self, host_id: str) -> tuple[GuestEntry, ...]:
        return tuple(
            GuestEntry(guest_uuid=one, name=name_of(one), state="running", captured_by=None)
            for one in self.uuids(host_id)
        )

    def size_bytes(self, guest_uuid: str, target: str) -> int:
        """Return the size of a disk, which no other disk has."""
        host, guest = int(guest_uuid[24:30], 16), int(guest_uuid[30:], 16)
        number = (host * self.guests_a_host + guest) * self.disks + self.targets.index(target)
        return (number + 1) * SIZE_STEP_BYTES

    def sizes(self) -> list[int]:
        """Return the sizes of all disks."""
        return [(number + 1) * SIZE_STEP_BYTES for number in range(self.guests * self.disks)]

    def prepared(self, plan: GuestPlan, order: PrepareOrder) -> PreparedGuest:
        """Return what a host tells of a guest that it has prepared. Disks build upon what the plan offers."""
        parents = {one.target: one.parent for one in plan.parents}
        return PreparedGuest(
            guest_uuid=plan.guest_uuid,
            name=plan.name,
            expected_hold_ms=50.0,
            domain_xml=f"<domain>{'x' * (XML_CHARACTERS - 17)}</domain>",
            live_xml=f"<domain>{'y' * (XML_CHARACTERS - 17)}</domain>",
            autostart=True,
            disks=tuple(self._disk(plan, one, parents.get(one), order.capture_id) for one in self.targets),
            filesystems=2,
        )

    def _disk(self, plan: GuestPlan, target: str, parent: ParentDisk | None, capture_id: str) -> PreparedDisk:
        place = _place(plan.guest_uuid, target)
        return PreparedDisk(
            target=target,
            source=place,
            source_format="raw",
            identity=DiskIdentity(
                active=Layer(
                    kind="block",
                    place=place,
                    facts={"device-mapper UUID": f"LVM-{plan.guest_uuid}-{target}"},
                    lies_on=("wwid naa.6001405 ",),
                )
            ),
            size_bytes=self.size_bytes(plan.guest_uuid, target),
            kind=CaptureKind.FULL if parent is None else CaptureKind.INCREMENTAL,
            full_reason="this is the first capture" if parent is None else None,
            parent_capture_id=parent and parent.capture_id,
            parent_index=parent and parent.index,
            parent_checkpoint=parent and parent.checkpoint,
            checkpoint=f"freezeframe.{capture_id}",
        )

    def uses(self, guest_uuid: str) -> list[StorageUse]:
        """Return what a host tells other hosts of the storage of a guest."""
        return [
            StorageUse(
                guest_uuid=guest_uuid,
                guest=name_of(guest_uuid),
                target=target,
                writes=(f"wwid LVM-{guest_uuid}-{target} ",),
                within=("wwid naa.6001405 ",),
            )
            for target in self.targets
        ]


def name_of(guest_uuid: str) -> str:
    return f"guest-{guest_uuid[24:]}"


def _place(guest_uuid: str, target: str) -> str:
    return f"/dev/san/{guest_uuid}-{target}"
