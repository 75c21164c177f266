"""Guests whose capture has a part that is there and cannot be read: written by another version, or damaged in Redis. Pure.

| cannot be read, although it could be before | found                             | then                                       |
|---------------------------------------------|-----------------------------------|--------------------------------------------|
| a host's answer to prepare                  | after the hold, after the         | under `degrade` the kept guests of that    |
|                                             | transfers, or at the seal         | host are dropped, each with a fault;       |
| its answer to the hold                      | at the seal                       | under `all` the capture fails with these   |
| the answer about a disk; the definition     | at the seal                       | the same for that guest                    |

What is not there at all is lost (`AnswersLostError`): then nobody knows what else is, and nothing is sealed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HoldResult, PrepareResult, TransferResult
from orchestrator.answers import Unread, UnreadableAnswerError
from orchestrator.errors import GuestUnreadableError
from orchestrator.run import Run
from orchestrator.transfers import kept_guests


def without_prepare(run: Run, prepared: Sequence[PrepareResult]) -> dict[str, Fault]:
    """Return the kept guests of which a host's answer to prepare told that cannot be read now, each with a fault."""
    if not _unread(prepared):
        return {}
    known = {guest.guest_uuid for _, guest in kept_guests(run, prepared)}
    return _of_hosts(run, prepared, known)


def check(run: Run, prepared: Sequence[PrepareResult], held: Sequence[HoldResult], steps: Collection[str]) -> None:
    """Raise GuestUnreadableError if a kept guest is in an answer that cannot be read. `steps`: guests whose hold is known."""
    for faults in (without_prepare(run, prepared), _of_hosts(run, held, steps)):
        for guest_uuid, fault in faults.items():
            raise GuestUnreadableError(f"Guest {fault.guest or guest_uuid}: {fault.message}", advice=fault.advice)


def check_transfer(guest: str, result: TransferResult) -> None:
    """Raise GuestUnreadableError if the answer about a disk cannot be read."""
    if _unread([result]) and result.fault is not None:
        raise GuestUnreadableError(
            f"Guest {guest}, disk {result.target}: {result.fault.message}", advice=result.fault.advice
        )


def unread_definition(guest: str, host_id: str, unread: Unread) -> GuestUnreadableError:
    """Return the error for a guest whose definition cannot be read."""
    error = UnreadableAnswerError(host_id, f"the definition of guest {guest}", unread.why)
    return GuestUnreadableError(error.message, advice=error.hint)


def _unread(results: Iterable[PrepareResult | HoldResult | TransferResult]) -> dict[str, Fault]:
    return {one.host_id: one.fault for one in results if one.fault and one.fault.code == UnreadableAnswerError.code}


def _of_hosts(
    run: Run, results: Sequence[PrepareResult] | Sequence[HoldResult], known: Collection[str]
) -> dict[str, Fault]:
    """Return the kept guests of hosts whose answer cannot be read, but for those that are known from another one."""
    unread = _unread(results)
    missing = frozenset(run.kept).difference(known) if unread else frozenset()
    return {
        guest.guest_uuid: unread[host.host_id].model_copy(update={"guest": guest.name})
        for host in (run.plan.hosts if run.plan and missing else ())
        for guest in host.guests
        if host.host_id in unread and guest.guest_uuid in missing
    }
