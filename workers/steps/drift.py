"""Look again at a guest's disks right before its hold, while no guest is held."""

from __future__ import annotations

from freezeframe.contract.identity import difference
from freezeframe.contract.result import PreparedGuest
from workers.fitness import compare_disks
from workers.hypervisor.disk import disks_of
from workers.hypervisor.domain import Domain
from workers.identity.read import Unknown, read_identities
from workers.steps.refusal import DisksChangedError


def left_out_now(domain: Domain, guest: PreparedGuest) -> tuple[str, ...]:
    """Return the disks that the backup must name as left out. Raises DisksChangedError, naming the disks.

    The definition tells of a disk that was attached, detached or replaced; its identity, of another file under the old name.
    """
    captured = [disk.target for disk in guest.disks]
    skipped = {disk.target for disk in guest.skipped}
    now = domain.disks()
    found = compare_disks(disks_of(guest.live_xml) if guest.live_xml else now, now, captured, skipped)
    changes = found.changes or tuple(_other_storage(domain, guest))
    if changes:
        raise DisksChangedError(f"Since guest {guest.name} was prepared, {'; '.join(changes)}.")
    return found.left_out


def _other_storage(domain: Domain, guest: PreparedGuest) -> list[str]:
    prepared = {disk.target: disk.identity for disk in guest.disks if disk.identity is not None}
    now = read_identities(domain, list(prepared))
    return [
        f"disk {target} was replaced: {why}"
        for target, identity in prepared.items()
        if not isinstance(current := now[target], Unknown) and (why := difference(identity, current)) is not None
    ]
