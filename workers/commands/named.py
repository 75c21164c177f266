"""The guests of this host that a verb names."""

from __future__ import annotations

from collections.abc import Sequence

from freezeframe import naming
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError


def named(domains: Sequence[Domain], wanted: Sequence[str]) -> list[Domain]:
    """Return the guests with those names or UUIDs, each once. Raises GuestGoneError for the first that is not here."""
    found: dict[str, Domain] = {}
    for one in wanted:
        meant = naming.meant(one, domains, lambda domain: domain.uuid, lambda domain: domain.name)
        if not meant:
            raise GuestGoneError(
                f"There is no guest {one} on this host.", advice="`virsh list --all --name --uuid` lists its guests."
            )
        found |= {domain.uuid: domain for domain in meant}
    return list(found.values())
