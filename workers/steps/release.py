"""Release: end the backups and leave every guest as it was found, but for the checkpoint that a sealed capture keeps."""

from __future__ import annotations

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import ReleaseOrder
from freezeframe.contract.result import ReleaseResult
from freezeframe.contract.words import Step
from workers.host import Host
from workers.steps.undo import undo_capture


def release(host: Host, order: ReleaseOrder) -> ReleaseResult:
    """Undo what the capture changed on this host. What cannot be undone now is told, and left to recovery."""
    journal = host.journal.of(order.capture_id)
    # a run may be released while a step of it, late on a host in trouble, is still at work: what that did after us would stay
    with journal.lock(Step.PREPARE, ""), journal.lock(Step.HOLD, ""):
        left = undo_capture(host, journal, sealed=set(order.sealed_guests))
    host.journal.prune()
    return ReleaseResult(capture_id=order.capture_id, host_id=host.host_id, warnings=tuple(left))


def failed(order: ReleaseOrder, fault: Fault) -> ReleaseResult:
    return ReleaseResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)
