"""A capture of many guests, as its parts tell of it at each step: the messages of the contract, made and checked as they are.

ManyGuests(hosts=100, guests_a_host=10, disks=2)   ─▶  .inventory  .plan  .run(state)  .prepared  .held  .transferred
                                                       .released  .results (as in Redis)  .pulses  .manifest
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from freezeframe.contract import names
from freezeframe.contract.clock import ClockReading
from freezeframe.contract.definition import Definition
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import (
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    ReleaseResult,
    Result,
    SeenUses,
    TransferResult,
)
from freezeframe.contract.words import CaptureKind, HoldKind, Method, Policy, RunState, Step
from freezeframe.presence import KnownHost
from freezeframe.repository import Manifest
from orchestrator.run import Run
from orchestrator.seal import manifest_of

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FREEZE = GuestHold(kind=HoldKind.FREEZE)
CHUNK = 1 << 20
RELEASE_US = round(NOW.timestamp() * 1e6)
MS = 1_000_000  # ns
Answered = tuple[
    Sequence[PrepareResult],
    Sequence[HoldResult],
    Sequence[TransferResult],
    Sequence[SeenUses],
    Mapping[str, Definition],
]


@dataclass(frozen=True)
class ManyGuests:
    """A capture that goes well: each host has as many guests, and each guest as many disks."""

    hosts: int
    guests_a_host: int = 10
    disks: int = 2

    @property
    def guests(self) -> int:
        return self.hosts * self.guests_a_host

    @cached_property
    def host_ids(self) -> list[str]:
        return [f"host-{number:04}" for number in range(self.hosts)]

    def uuids(self, host: int) -> list[str]:
        """Return the UUIDs of a host's guests. They begin alike, as those of one tool do."""
        return [f"00000000-0000-4000-8000-{host:06x}{guest:06x}" for guest in range(self.guests_a_host)]

    @cached_property
    def every_uuid(self) -> tuple[str, ...]:
        return tuple(guest_uuid for host in range(self.hosts) for guest_uuid in self.uuids(host))

    @staticmethod
    def name(guest_uuid: str) -> str:
        return f"guest-{guest_uuid[-12:]}"

    @cached_property
    def targets(self) -> list[str]:
        return [f"vd{chr(ord('a') + number)}" for number in range(self.disks)]

    @cached_property
    def inventory(self) -> list[KnownHost]:
        """Each host as it has published itself."""
        return [
            KnownHost(
                HostEntry(
                    host_id=host_id,
                    at=NOW,
                    freezeframe_version="0",
                    libvirt_version="9.0.0",
                    qemu_version="7.2.0",
                    guests=tuple(
                        GuestEntry(guest_uuid=one, name=self.name(one), state="running") for one in self.uuids(host)
                    ),
                    control_instance="first",
                    data_instance="first",
                ),
                alive=True,
            )
            for host, host_id in enumerate(self.host_ids)
        ]

    def request(self, policy: Policy = Policy.DEGRADE, **changes: Any) -> CaptureRequest:
        """Return a request for every guest, or what `changes` makes of it."""
        return CaptureRequest.model_validate(
            {"capture_id": CAPTURE, "every_guest": True, "policy": policy, "group": "all", **changes}
        )

    @cached_property
    def by_name(self) -> CaptureRequest:
        """A request that names each guest."""
        wanted = tuple(self.name(one) for one in self.every_uuid)
        return self.request(every_guest=False, guests=wanted)

    @cached_property
    def plan(self) -> Plan:
        return Plan(
            capture_id=CAPTURE,
            epoch=7,
            method=Method.BACKUP_PULL,
            chunk_bytes=CHUNK,
            repository_id="r",
            hosts=tuple(
                HostPlan(
                    host_id=host_id,
                    guests=tuple(
                        GuestPlan(guest_uuid=one, name=self.name(one), hold=FREEZE) for one in self.uuids(host)
                    ),
                )
                for host, host_id in enumerate(self.host_ids)
            ),
        )

    def run(self, state: RunState, policy: Policy = Policy.DEGRADE, **changes: Any) -> Run:
        """Return the run that has come to a state, with nothing lost."""
        holds = state is not RunState.PREPARING
        blank = Run(
            capture_id=CAPTURE,
            request=self.request(policy),
            asked_at=NOW,
            state=state,
            plan=self.plan,
            entered_at=NOW,
            due_at=NOW + timedelta(hours=1),
            dispatched=True,
            sent_to=dict.fromkeys(self.host_ids, "first"),
            members=tuple(self.host_ids) if holds else (),
            kept=self.every_uuid if holds else (),
        )
        return blank.model_copy(update=changes)

    def disk(self, guest_uuid: str, target: str, **changes: Any) -> PreparedDisk:
        """Return a disk on a volume of a LUN that all hosts have."""
        place = f"/dev/san/{guest_uuid}-{target}"
        identity = DiskIdentity(
            active=Layer(
                kind="block",
                place=place,
                facts={"device-mapper UUID": f"LVM-{guest_uuid}-{target}"},
                lies_on=("wwid naa.6001405 ",),
            )
        )
        return PreparedDisk.model_validate(
            {
                "target": target,
                "source": place,
                "source_format": "raw",
                "identity": identity,
                "size_bytes": 1 << 30,
                "kind": CaptureKind.FULL,
                "checkpoint": f"ff-{CAPTURE}",
                **changes,
            }
        )

    @cached_property
    def prepared(self) -> list[PrepareResult]:
        return [
            PrepareResult(
                capture_id=CAPTURE,
                host_id=host_id,
                guests=tuple(
                    PreparedGuest(
                        guest_uuid=one,
                        name=self.name(one),
                        expected_hold_ms=50.0,
                        disks=tuple(self.disk(one, target) for target in self.targets),
                        filesystems=1,
                    )
                    for one in self.uuids(host)
                ),
            )
            for host, host_id in enumerate(self.host_ids)
        ]

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """The definitions of all guests, by names.definition_field."""
        return {
            names.definition_field(host_id, one): Definition(domain_xml="<domain/>")
            for host, host_id in enumerate(self.host_ids)
            for one in self.uuids(host)
        }

    @cached_property
    def held(self) -> list[HoldResult]:
        """Every guest was held from 1 to 9 ms by its host's clock, and each host was told of the release at 7 ms."""
        return [
            HoldResult(
                capture_id=CAPTURE,
                host_id=host_id,
                proof=HostProof(
                    host_id=host_id,
                    boot_id="boot",  # as containers of one machine have
                    report_ns=5 * MS,
                    woken_ns=7 * MS,
                    clock_before=ClockReading(at_ns=0, redis_us=RELEASE_US - 6000, uncertainty_us=100),
                    clock_after=ClockReading(at_ns=10 * MS, redis_us=RELEASE_US + 4000, uncertainty_us=100),
                    guests=tuple(_held_guest(one) for one in self.uuids(host)),
                ),
                arrived_us=RELEASE_US - 1000,
                release_us=RELEASE_US,
                release_arrivals=self.hosts,
            )
            for host, host_id in enumerate(self.host_ids)
        ]

    @cached_property
    def transferred(self) -> list[TransferResult]:
        return [
            TransferResult(
                capture_id=CAPTURE,
                host_id=host_id,
                guest_uuid=one,
                target=target,
                index="0" * 64,
                bytes_read=CHUNK,
                bytes_stored=CHUNK,
            )
            for host, host_id in enumerate(self.host_ids)
            for one in self.uuids(host)
            for target in self.targets
        ]

    @cached_property
    def released(self) -> list[ReleaseResult]:
        return [ReleaseResult(capture_id=CAPTURE, host_id=host_id) for host_id in self.host_ids]

    @cached_property
    def results(self) -> dict[str, str]:
        """All results as Redis has them: texts by `names.result_field`."""
        return {field: result.model_dump_json() for field, result in self._results()}

    def _results(self) -> Iterator[tuple[str, Result]]:
        for step, results in ((Step.PREPARE, self.prepared), (Step.HOLD, self.held), (Step.RELEASE, self.released)):
            yield from ((names.result_field(step, one.host_id), one) for one in results)
        for result in self.transferred:
            part = names.transfer_part(result.guest_uuid, result.target)
            yield names.result_field(Step.TRANSFER, result.host_id, part), result

    @cached_property
    def pulses(self) -> dict[str, str]:
        """What each transfer says of itself, as Redis has it."""
        parts = [(one.host_id, names.transfer_part(one.guest_uuid, one.target)) for one in self.transferred]
        return {names.pulse_field(host_id, part): "1048576 0" for host_id, part in parts}

    @property
    def answers(self) -> Answered:
        """What the manifest is made of besides the run."""
        return self.prepared, self.held, self.transferred, (), self.definitions

    @cached_property
    def manifest(self) -> Manifest:
        return manifest_of(self.run(RunState.SEALING), *self.answers)


def _held_guest(guest_uuid: str) -> GuestProof:
    return GuestProof(
        guest_uuid=guest_uuid,
        hold=FREEZE,
        frozen_filesystems=1,
        expected_filesystems=1,
        hold_start_ns=1 * MS,
        held_ns=2 * MS,
        begun_ns=3 * MS,
        thaw_start_ns=8 * MS,
        thawed_ns=9 * MS,
    )
