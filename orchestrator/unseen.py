"""Disks of which it could not be seen whether another guest wrote to them: unknown is never unshared. Pure.

| not seen                                | disks                                                                        |
|-----------------------------------------|------------------------------------------------------------------------------|
| when a disk had been read, by its host  | that disk                                                                    |
| after the hold, by one of the hosts     | those of other hosts that have a name on every host; its own guests' disks   |
|                                         | that host has told as moving itself                                          |
| a writer that came and went since, as   | the same, and all disks of its own guests: of those it tells nowhere else    |
| a host tells, or what it tells cannot   |                                                                              |
| be read here                            |                                                                              |

They count as moving, so the proof claims less and the label is `crash`; a warning says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from freezeframe.contract.proof import GuestProof, HostProof, Proof
from freezeframe.contract.result import HoldResult, PrepareResult, SeenUses, TransferResult
from orchestrator.run import Run
from orchestrator.sharing import captured_disks


class Unseen(NamedTuple):
    """A disk of a guest, and the warning of it."""

    guest_uuid: str
    target: str
    warning: str


def unseen_in(transferred: Sequence[TransferResult]) -> list[Unseen]:
    """Return the disks of which their own hosts could not see it when they had been read."""
    return [Unseen(one.guest_uuid, one.target, one.writers_unseen) for one in transferred if one.writers_unseen]


def unseen_since(run: Run, prepared: Sequence[PrepareResult], since: Sequence[HoldResult | SeenUses]) -> list[Unseen]:
    """Return the disks of which it is not known since the hold whether another guest has written to them."""
    blind = {result.host_id: result.writers_unseen for result in since if result.writers_unseen}
    if not blind:
        return []
    own = {one.host_id: one.writers_unseen for one in since if isinstance(one, SeenUses) and one.writers_unseen}
    first = sorted(blind)[:2]  # one of the two is another host than that of a disk, if any is
    guest_names = {one.guest_uuid: one.name for host in (run.plan.hosts if run.plan else ()) for one in host.guests}
    found = []
    for host_id, guest_uuid, target, elsewhere in captured_disks(prepared, frozenset(run.kept)):
        other = next((name for name in first if name != host_id), None) if elsewhere else None
        host, why = (host_id, own[host_id]) if host_id in own else (other, blind.get(other or ""))
        if host is not None:
            warning = (
                f"Since the hold it is not known whether a guest of host {host} writes to disk {target} of guest "
                f"{guest_names.get(guest_uuid, guest_uuid)}: {why}. The guest's label is crash."
            )
            found.append(Unseen(guest_uuid, target, warning))
    return found


def claim_less(proof: Proof, unseen: Iterable[Unseen]) -> Proof:
    """Return the proof in which these disks are not kept still by the hold of their guests."""
    moving: dict[str, set[str]] = {}
    for one in unseen:
        moving.setdefault(one.guest_uuid, set()).add(one.target)
    return proof.model_copy(update={"hosts": tuple(_host(host, moving) for host in proof.hosts)})


def _host(host: HostProof, moving: Mapping[str, Iterable[str]]) -> HostProof:
    return host.model_copy(update={"guests": tuple(_guest(guest, moving) for guest in host.guests)})


def _guest(guest: GuestProof, moving: Mapping[str, Iterable[str]]) -> GuestProof:
    more = sorted(set(moving.get(guest.guest_uuid, ())) - set(guest.moving_disks))
    return guest.model_copy(update={"moving_disks": (*guest.moving_disks, *more)}) if more else guest
