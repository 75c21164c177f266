"""Look again at a guest that was prepared: whether it is the same start of it, with the same disks.

Twice: before the muster, while no guest is held, and after the guests were let go (`premises.py`).
"""

from __future__ import annotations

from freezeframe.contract.identity import difference
from freezeframe.contract.result import PreparedGuest
from workers.fitness import attached_devices, compare_disks
from workers.hypervisor.disk import disks_of, parse
from workers.hypervisor.domain import Domain
from workers.identity.device_class import passed_of
from workers.identity.read import Unknown, read_identities
from workers.refusal import DisksChangedError, GuestRestartedError


def left_out_now(domain: Domain, guest: PreparedGuest) -> tuple[str, ...]:
    """Return the disks that the backup must name as left out. Raises GuestRestartedError, DisksChangedError with the disks.

    The definition tells of a disk that was attached, detached or replaced; its identity, of another file under the old name.
    """
    live_xml = domain.live_xml()
    if guest.live_xml and _start(guest.live_xml) != _start(live_xml):
        raise GuestRestartedError(f"Guest {guest.name} was stopped and started again since it was prepared.")
    captured = [disk.target for disk in guest.disks]
    skipped = {disk.target for disk in guest.skipped}
    prepared_xml = guest.live_xml or live_xml
    found = compare_disks(disks_of(prepared_xml), disks_of(live_xml), captured, skipped)
    attached = attached_devices(passed_of(prepared_xml), passed_of(live_xml))
    changes = (*found.changes, *attached) or (*_other_sizes(domain, guest), *_other_storage(domain, guest))
    if changes:
        raise DisksChangedError(f"Since guest {guest.name} was prepared, {'; '.join(changes)}.")
    return found.left_out


def _start(live_xml: str) -> str | None:
    """Return libvirt's number of this start of a guest. A reboot from within keeps it, and QEMU."""
    return parse(live_xml).get("id")


def _other_sizes(domain: Domain, guest: PreparedGuest) -> list[str]:
    """QEMU refuses a scratch file of another size than the disk, when the backup begins."""
    sizes = [(disk, domain.disk_bytes(disk.target)) for disk in guest.disks]
    return [
        f"disk {disk.target} was resized from {disk.size_bytes} to {size} bytes"
        for disk, size in sizes
        if size != disk.size_bytes
    ]


def _other_storage(domain: Domain, guest: PreparedGuest) -> list[str]:
    """A disk that was known and is not any more counts as replaced: nothing shows that it is the same (invariant 7)."""
    prepared = {disk.target: disk.identity for disk in guest.disks if disk.identity is not None}
    changes = []
    for target, current in read_identities(domain, list(prepared)).items():
        if isinstance(current, Unknown):
            changes.append(f"it cannot be told any more whether disk {target} is the same: {current.why.rstrip('.')}")
        elif (why := difference(prepared[target], current)) is not None:
            changes.append(f"disk {target} was replaced: {why}")
    return changes
