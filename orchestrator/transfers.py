"""The guests of a run that are kept, as their hosts have prepared them, and the transfers of their disks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import Step
from freezeframe.settings import OrchestratorSettings
from orchestrator.run import Run

#: Bytes a second that a host reads at least as long as its transfers move: a hard disk that guests use too.
SLOWEST_BYTES_S: Final = 64 << 20
#: Disks that a host reads at a time.
AT_ONCE: Final = 2


class Transfer(NamedTuple):
    """A disk of a guest that is kept, and the host that reads it."""

    host_id: str
    guest: PreparedGuest
    disk: PreparedDisk

    @property
    def key(self) -> tuple[str, str]:
        """Return the guest's UUID and the disk's target, by which results are known."""
        return self.guest.guest_uuid, self.disk.target

    @property
    def field(self) -> str:
        """Return the field of the run's results in which this transfer's is due."""
        return names.result_field(Step.TRANSFER, self.host_id, names.transfer_part(*self.key))

    def dropped(self, why: Fault) -> Fault:
        """Return the fault of this disk, of which its host will tell nothing any more."""
        message = f"Disk {self.disk.target} of guest {self.guest.name} was not stored. {why.message}"
        changes = {"message": message, "guest": self.guest.name, "host": self.host_id, "disk": self.disk.target}
        return why.model_copy(update=changes)


def kept_guests(run: Run, prepared: Sequence[PrepareResult]) -> Iterator[tuple[str, PreparedGuest]]:
    """Yield each guest that is kept, with the host that has prepared it: it may have been refused elsewhere before."""
    kept = frozenset(run.kept)
    for result in prepared:
        for guest in result.guests if result.fault is None else ():
            if guest.guest_uuid in kept and guest.fault is None:
                yield result.host_id, guest


def expected_transfers(run: Run, prepared: Sequence[PrepareResult]) -> list[Transfer]:
    """Return the transfers of a run: every disk of every guest that is kept."""
    return [Transfer(host_id, guest, disk) for host_id, guest in kept_guests(run, prepared) for disk in guest.disks]


def time_for(run: Run, prepared: Sequence[PrepareResult], settings: OrchestratorSettings) -> timedelta:
    """Return how long the transfers of a run may take: as long as the host with the most to read needs at its slowest.

        host a   ▐ 40 TiB to read ▌ at 64 MiB/s, or at twice the limit that was asked for a disk    → 6.4 days, the most
        host b   ▐ 1 TiB          ▌                                                                 → transfer_timeout_s
        host c   ▐ a disk of 2 TiB▌ at the limit of a disk                                          → by its size

    A transfer that stands still is given up long before (`stall`).
    """
    sizes, largest = Counter[str](), 0
    for one in expected_transfers(run, prepared):
        sizes[one.host_id] += one.disk.size_bytes
        largest = max(largest, one.disk.size_bytes)
    limit = run.request.limit_bytes_s or SLOWEST_BYTES_S
    on_a_host = max(sizes.values(), default=0) / min(SLOWEST_BYTES_S, AT_ONCE * limit)
    seconds = max(settings.transfer_timeout_s, on_a_host, largest / min(SLOWEST_BYTES_S, limit))
    return timedelta(seconds=min(seconds, settings.longest_transfer_s))
