"""The steps of a fleet's hosts: they touch nothing, and tell as the real steps do of guests with which all goes well."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Semaphore
from typing import Any

from freezeframe.barrier import await_clock, gate_client, read_clock
from freezeframe.contract.order import HoldOrder, PrepareOrder, ReleaseOrder, TransferOrder
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.result import HoldResult, PrepareResult, ReleaseResult, TransferResult
from freezeframe.contract.words import Step
from ops.fleet.made_up import MadeUp
from workers.boot import boot_id
from workers.host import Host
from workers.steps import hold, table
from workers.steps.frame import StepCode
from workers.steps.once import check_first
from workers.steps.progress import Progress
from workers.steps.reporter import Reporter

#: Hosts that ask Redis at once.
AT_ONCE = 8
#: A held guest's steps: ns between two of them.
_STEP_NS = 1_000_000


@dataclass(frozen=True)
class MadeUpSteps:
    """`indexes` are the digests of the disks' indexes by the disks' sizes."""

    made_up: MadeUp
    indexes: Mapping[int, str]
    #: For exchanges that may take a second: one process has the threads of all hosts, and not all at once are that fast.
    in_turn: Semaphore = field(default_factory=lambda: Semaphore(AT_ONCE))

    def prepare(self, host: Host, order: PrepareOrder) -> PrepareResult:
        return PrepareResult(
            capture_id=order.capture_id,
            host_id=host.host_id,
            guests=tuple(self.made_up.prepared(one, order) for one in order.guests),
            round=order.round,
            uses=tuple(use for uuid in self.made_up.uuids(host.host_id) for use in self.made_up.uses(uuid)),
        )

    def hold(self, host: Host, order: HoldOrder) -> HoldResult:
        """Meet the other hosts as `workers.steps.hold` does, with nothing held."""
        with gate_client(host.bus) as client:
            muster, barrier = hold.gates(client, order)
            deadline = time.monotonic() + order.muster_timeout_s
            with self.in_turn:
                clock = await_clock(client, deadline)
                check_first(barrier, order, deadline)
            muster.meet(deadline)
            until = time.monotonic() + order.hold_timeout_s
            held = [(one, time.monotonic_ns()) for one in order.guests]
            report_ns = held[-1][1] + 3 * _STEP_NS if held else time.monotonic_ns()
            barrier.meet(until, secrets.token_hex(8))
            woken_ns = max(time.monotonic_ns(), report_ns)
            with self.in_turn:
                reply, clock_after = barrier.look(), read_clock(client)
            proof = HostProof(
                host_id=host.host_id,
                boot_id=boot_id(),
                report_ns=report_ns,
                woken_ns=woken_ns,
                clock_before=clock,
                clock_after=clock_after,
                guests=tuple(
                    GuestProof(
                        guest_uuid=one.guest_uuid,
                        hold=one.hold,
                        hold_start_ns=at_ns,
                        held_ns=at_ns + _STEP_NS,
                        begun_ns=at_ns + 2 * _STEP_NS,
                        thaw_start_ns=woken_ns + _STEP_NS,
                        thawed_ns=woken_ns + 2 * _STEP_NS,
                        frozen_filesystems=2,
                        expected_filesystems=2,
                    )
                    for one, at_ns in held
                ),
            )
            return HoldResult(
                capture_id=order.capture_id,
                host_id=host.host_id,
                proof=proof,
                arrived_us=barrier.own_us,
                release_us=reply.at_us,
                release_arrivals=reply.arrived,
            )

    def transfer(self, host: Host, order: TransferOrder) -> TransferResult:
        progress = Progress(bytes_total=order.size_bytes)
        with Reporter(host, order, progress):
            progress.add(done=order.size_bytes, read=0)
        return TransferResult(
            capture_id=order.capture_id,
            host_id=host.host_id,
            guest_uuid=order.guest_uuid,
            target=order.target,
            index=self.indexes[order.size_bytes],
            bytes_read=order.size_bytes,
            bytes_stored=order.size_bytes,
            chunks_new=1,
        )

    def release(self, host: Host, order: ReleaseOrder) -> ReleaseResult:
        host.journal.of(order.capture_id).end()
        return ReleaseResult(capture_id=order.capture_id, host_id=host.host_id)

    def codes(self) -> dict[Step, StepCode[Any, Any]]:
        """Return the steps as workers have them, but for what they do."""
        return {
            Step.PREPARE: replace(table.PREPARE, do=self.prepare),
            Step.HOLD: replace(table.HOLD, do=self.hold),
            Step.TRANSFER: replace(table.TRANSFER, do=self.transfer),
            Step.RELEASE: replace(table.RELEASE, do=self.release),
        }
