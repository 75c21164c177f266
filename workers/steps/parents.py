"""Which capture a disk may build upon, and why it is read in full otherwise: increment only on proof (invariant 7).

The proof is of the disk first, then of its bitmap:

    captures of the guest's disks ─▶ the newest of *this* disk, by identity ─▶ same size and chunks? ─▶ is the chain sound?
                                      │ none: full, and how the disk under      where the disk is plugged in now: its own
                                      ▼ this target differs                     image must have each bitmap of the chain

So two disks that exchange their targets are each built upon their own capture, if every checkpoint covers both targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from freezeframe.contract.identity import DiskIdentity, difference
from freezeframe.contract.plan import DiskPlan, ParentDisk
from workers.hypervisor import checkpoint
from workers.hypervisor.domain import Domain
from workers.identity.read import Unknown


@dataclass(frozen=True)
class ParentChoice:
    """A capture of this very disk, or why there is none."""

    parent: ParentDisk | None = None
    reason: str | None = None


def choose_parent(
    target: str, identities: Mapping[str, DiskIdentity | Unknown], candidates: Sequence[DiskPlan]
) -> ParentChoice:
    """Choose the newest capture of the disk that is at `target` now. Pure."""
    own = identities[target]
    if not candidates:
        return ParentChoice(reason="there is no earlier capture of it to build upon, or a full one was asked for")
    if isinstance(own, Unknown):
        return ParentChoice(reason=f"it cannot be told which disk this is: {own.why}")
    for other, identity in identities.items():
        if other != target and not isinstance(identity, Unknown) and identity.key == own.key:
            return ParentChoice(reason=f"nothing tells it from disk {other}, which has the same storage")
    newest_first = sorted(candidates, key=lambda one: one.parent.capture_id, reverse=True)
    for one in newest_first:
        if one.parent.identity is not None and difference(one.parent.identity, own) is None:
            return _unless_suspect(one.parent)
    return ParentChoice(reason=_unlike(target, own, newest_first))


def _unless_suspect(parent: ParentDisk) -> ParentChoice:
    if parent.suspect:
        return ParentChoice(reason=f"capture {parent.capture_id} was found to have other data than this disk")
    return ParentChoice(parent=parent)


def _unlike(target: str, own: DiskIdentity, newest_first: Sequence[DiskPlan]) -> str:
    """Say why the capture of the disk that was at this target last is of another disk, as far as can be told."""
    last = next((one.parent for one in newest_first if one.target == target), None)
    if last is None:
        return "there is no earlier capture of it to build upon"
    if last.identity is None:
        return f"capture {last.capture_id} does not say which disk it read as {target}"
    return f"it is not the disk that capture {last.capture_id} read as {target}: {difference(last.identity, own)}"


def full_reason(domain: Domain, target: str, size_bytes: int, choice: ParentChoice, chunk_bytes: int) -> str | None:
    """Return why a disk that records its changes must be read in full; None if those since the parent are proven."""
    if choice.parent is None:
        return choice.reason
    if choice.parent.size_bytes != size_bytes:
        return f"its size has changed from {choice.parent.size_bytes} to {size_bytes} bytes"
    if choice.parent.chunk_bytes != chunk_bytes:
        return "the repository's chunk size has changed"
    return checkpoint.chain_fault(domain, choice.parent.checkpoint, target)
