"""How large a manifest will be, before any guest is held: else one that is too large is found after all transfers. Pure.

guest ─▶ definitions (their host tells the size) + what was prepared + a bound for what hold and transfer add
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from freezeframe.contract.result import PreparedGuest, PrepareResult
from freezeframe.repository.layout import OBJECT_BYTES_MAX
from orchestrator.errors import CaptureTooLargeError

#: Bytes that a capture has besides its guests: request, proof of the barrier, encryption.
_BASE: Final = 64 << 10
#: Bytes that the proof has of a host: ids, two times, an arrival.
_HOST: Final = 1 << 10
#: Bytes that a hold adds to a guest: its proof, labels, times.
_GUEST: Final = 2 << 10
#: Bytes that a transfer adds to a disk: digests, counts, what it is and was. Warnings may add some to a few.
_DISK: Final = 1 << 10


def estimate(prepared: Iterable[PrepareResult], guests: Collection[str]) -> int:
    """Return the bytes of a manifest of these guests: more than it will have, by 3 KiB a guest and 2 KiB a disk at most."""
    chosen = frozenset(guests)
    hosts = [[guest for guest in result.guests if guest.guest_uuid in chosen] for result in prepared]
    return _BASE + sum(_HOST + sum(map(_of_guest, host)) for host in hosts if host)


def _of_guest(guest: PreparedGuest) -> int:
    return guest.definition_bytes + len(guest.model_dump_json()) + _GUEST + _DISK * len(guest.disks)


def check(prepared: Iterable[PrepareResult], guests: Collection[str]) -> CaptureTooLargeError | None:
    """Return why no repository takes a manifest of these guests; None if it does."""
    size = estimate(prepared, guests)
    if size <= OBJECT_BYTES_MAX:
        return None
    return CaptureTooLargeError(
        f"The manifest of these {len(guests)} guests would have about {size >> 20} MiB, and no repository takes one of more "
        f"than {OBJECT_BYTES_MAX >> 20} MiB."
    )
