"""Hosts that do not answer, and guests of which an answer says neither that they take part nor why not. Pure.

No answer may drop a guest without a word.

The workers of this version explain each guest. One of another version, or with a defect, may not; the guest would be missing
from the capture, and nobody would be told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HoldResult, PrepareResult, Result, TransferResult
from freezeframe.contract.words import Step
from orchestrator.errors import HostSilentError, UnexplainedError
from orchestrator.run import Run


def silent(
    run: Run, step: Step, host_ids: Sequence[str], results: Sequence[Result], now: datetime
) -> list[Fault] | None:
    """Return a fault for each host that has not answered by its deadline; None while they are waited for."""
    hosts = sorted(set(host_ids) - {result.host_id for result in results})
    if hosts and now < run.due_at:
        return None
    return [
        Fault.of(HostSilentError(f"Host {host_id} has not answered the order to {step} in time."), host=host_id)
        for host_id in hosts
    ]


def not_prepared(run: Run, answers: Sequence[PrepareResult]) -> list[Fault]:
    """Return a fault for each guest of which a host's answer in this round says nothing."""
    told = {result.host_id: {guest.guest_uuid for guest in result.guests} for result in answers if not result.fault}
    return [
        _fault(
            f"Host {host.host_id} has prepared its guests without a word of guest {guest.name}.",
            guest.name,
            host.host_id,
        )
        for host in run.to_prepare
        for guest in host.guests
        if host.host_id in told and guest.guest_uuid not in told[host.host_id]
    ]


def not_held(run: Run, results: Sequence[HoldResult], begun: Collection[str], silent: Collection[str]) -> list[Fault]:
    """Return a fault for each kept guest that has not begun and has no fault, unless its whole host has one."""
    assert run.plan is not None  # noqa: S101  a run is planned before it is held
    explained = {one.guest_uuid for result in results for one in result.guest_faults} | set(begun)
    hosts = {*silent, *(result.host_id for result in results if result.fault and not result.proof)}
    kept = frozenset(run.kept)
    return [
        _fault(f"Guest {guest.name} was not held, and host {host.host_id} does not say why.", guest.name, host.host_id)
        for host in run.plan.hosts
        for guest in host.guests
        if guest.guest_uuid in kept and guest.guest_uuid not in explained and host.host_id not in hosts
    ]


def not_stored(results: Sequence[TransferResult]) -> list[Fault]:
    """Return a fault for each disk that was not stored, of which its host does not say why."""
    return [
        _fault(
            f"Disk {one.target} of guest {one.guest_uuid} was not stored, and host {one.host_id} does not say why.",
            one.guest_uuid,
            one.host_id,
            one.target,
        )
        for one in results
        if not one.index and not one.fault
    ]


def _fault(message: str, guest: str, host: str, disk: str | None = None) -> Fault:
    return Fault.of(UnexplainedError(message), guest=guest, host=host, disk=disk)
