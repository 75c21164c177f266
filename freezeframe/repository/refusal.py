"""Refusal: the storage does not give an object. Is that one object, or is the store as a whole away?

    refused ──▶ read the config: it is given, or known to be absent ──▶ one object is refused, others can be used
    refused ──▶ read the config: it is refused too                  ──▶ the store is away: nothing follows from it

A store that is away must not pass for one whose objects are absent or damaged.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from freezeframe.repository.errors import ObjectNotFound
from freezeframe.repository.layout import CONFIG

if TYPE_CHECKING:
    from freezeframe.repository.errors import RepositoryNotReadable
    from freezeframe.repository.store.backend import Store


def check_not_away(store: Store) -> None:
    """Read the config after the storage refused an object. Raises RepositoryNotReadable if the store as a whole is away."""
    with suppress(ObjectNotFound):  # an answer too
        store.get(CONFIG)


def check_alone(store: Store, error: RepositoryNotReadable) -> None:
    """Return if only the object is refused of which `error` tells.

    Raises RepositoryNotReadable if it may be given in a while, or the store as a whole is away.
    """
    if error.transient:
        raise error
    check_not_away(store)
