"""Store a disk, and answer with it only if no other guest of this host wrote to it until its last byte was read.

    hold ─ begin ─ look (premises.py) ─▶ ... the disk's own storage ─▶ reading ─▶ what all guests write to ─▶ the result

QEMU keeps the old bytes for the export only before writes of its own guest. What another guest has written before the
export came there is read as if it had been there at the instant (invariant 2).

| seen when the disk is read                               | then                                                          |
|----------------------------------------------------------|---------------------------------------------------------------|
| another guest of the host may write to it                | the disk has failed, and its guest with it                    |
| one did so, and is gone: its backup was given up         | the same (`workers/writers.py`)                               |
| libvirt or the storage does not tell                     | the disk counts as moving: its guest's label is `crash`       |

The look may blame a writer that came when the disk had just been read, and misses none that stayed. What other hosts may have
too goes with the result, as far as they were not told before; the orchestrator compares (`orchestrator/sharing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import TransferResult
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import fitness, host_calls
from workers.host import Host
from workers.identity.uses import disk_uses, uses_of_guest
from workers.refusal import SecondWriterError
from workers.steps import source_failure
from workers.steps.prepared import told_uses

log = structlog.get_logger("transfer")

#: Seconds for libvirt to tell of one guest, and of all. On an ordinary host it takes milliseconds.
ONE_S: Final = 10.0
ALL_S: Final = 30.0


def transfer(host: Host, order: TransferOrder) -> TransferResult:
    """Store one disk as it was at the instant. Raises FreezeframeError, also if another guest wrote to it meanwhile."""
    own = _own_use(host, order)
    result = source_failure.transfer(host, order)
    uses, unseen = _uses_now(host)
    if not unseen:
        unseen = _check(order, own, uses)
    source_failure.raise_given_up(host, order)
    told = told_uses(host.journal.of(order.capture_id))
    warning = _warning(order, unseen) if unseen else ""
    return result.model_copy(update={"uses": fitness.later_uses(uses, told), "writers_unseen": warning})


def _own_use(host: Host, order: TransferOrder) -> fitness.DiskUse | None:
    """Return the disk's storage while its guest certainly runs: it may have stopped when the disk is read."""
    what = f"the storage of guest {order.guest_name}"
    try:
        uses = host_calls.answered(host, what, ONE_S, lambda: uses_of_guest(host.hypervisor, order.guest_uuid))
    except (FreezeframeError, OSError, ValueError) as error:
        log.warning("the storage of a disk is not known yet", guest=order.guest_name, why=str(error))
        return None
    return next((use for use in uses if use.target == order.target), None)


def _uses_now(host: Host) -> tuple[list[fitness.DiskUse], str]:
    """Return what all running guests of the host use, or why that cannot be seen."""
    try:
        return host_calls.answered(host, "the storage of all guests", ALL_S, lambda: disk_uses(host.hypervisor)), ""
    except (FreezeframeError, OSError, ValueError) as error:
        return [], str(error).rstrip(".")


def _check(order: TransferOrder, own: fitness.DiskUse | None, uses: Sequence[fitness.DiskUse]) -> str:
    """Raise SecondWriterError if another guest may write to the disk; return why that is not known, nothing if it is."""
    mine = (order.guest_uuid, order.target)
    own = own or next((use for use in uses if (use.guest_uuid, use.target) == mine), None)
    if own is None:
        return "libvirt did not tell what the disk is"
    others = [use for use in uses if (use.guest_uuid, use.target) != mine]
    reason = fitness.shared_reason(*mine, [own, *others])
    if reason is not None:
        raise SecondWriterError.of(NamedGuest(order.guest_name, order.guest_uuid), order.target, reason)
    return fitness.unseen_reason(*mine, [own, *others]) or ""


def _warning(order: TransferOrder, why: str) -> str:
    return (
        f"It could not be seen whether another guest wrote to disk {order.target} of guest {order.guest_name} while it was "
        f"read: {why}. The guest's label is crash."
    )
