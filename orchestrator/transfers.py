"""The guests of a run that are kept, as their hosts have prepared them, and the transfers of their disks. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import Step
from orchestrator.errors import TransferStalledError
from orchestrator.run import Run


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

    @property
    def pulse(self) -> str:
        """Return the field of the run's signs of life in which this transfer's is."""
        return names.pulse_field(self.host_id, names.transfer_part(*self.key))

    def stuck(self, seconds: float) -> Fault:
        """Return the fault of a transfer that has begun and does nothing any more, while others on its host move."""
        error = TransferStalledError(
            f"The transfer of disk {self.disk.target} of guest {self.guest.name} on host {self.host_id} has neither moved nor "
            f"waited for the repository for {seconds / 60:.0f} minutes.",
            advice=f"Look whether the guest's QEMU and its storage answer: `virsh domblkinfo {self.guest.guest_uuid} "
            f"{shlex.quote(self.disk.target)}` on host {self.host_id}.",
        )
        return Fault.of(error, guest=self.guest.name, host=self.host_id, disk=self.disk.target)

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
