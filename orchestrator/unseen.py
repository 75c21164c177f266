"""Disks of which it could not be seen whether another guest wrote to them: unknown is never unshared. Pure.

They count as moving, as after a look of the host's own that failed, so the proof claims less and the label is `crash`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from freezeframe.contract.proof import GuestProof, HostProof, Proof
from freezeframe.contract.result import TransferResult


def unseen_in(transferred: Sequence[TransferResult]) -> dict[str, frozenset[str]]:
    """Return the disks that a transfer has read without seeing that, by guest."""
    found: dict[str, frozenset[str]] = {}
    for result in transferred:
        if result.writers_unseen:
            found[result.guest_uuid] = found.get(result.guest_uuid, frozenset()) | {result.target}
    return found


def warnings_of(transferred: Sequence[TransferResult]) -> list[tuple[str, str]]:
    """Return the warning of each such disk, with the UUID of its guest."""
    return [(result.guest_uuid, result.writers_unseen) for result in transferred if result.writers_unseen]


def claim_less(proof: Proof, moving: Mapping[str, Iterable[str]]) -> Proof:
    """Return the proof in which these disks are not kept still by the hold of their guests."""
    return proof.model_copy(update={"hosts": tuple(_host(host, moving) for host in proof.hosts)})


def _host(host: HostProof, moving: Mapping[str, Iterable[str]]) -> HostProof:
    return host.model_copy(update={"guests": tuple(_guest(guest, moving) for guest in host.guests)})


def _guest(guest: GuestProof, moving: Mapping[str, Iterable[str]]) -> GuestProof:
    more = sorted(set(moving.get(guest.guest_uuid, ())) - set(guest.moving_disks))
    return guest.model_copy(update={"moving_disks": (*guest.moving_disks, *more)}) if more else guest
