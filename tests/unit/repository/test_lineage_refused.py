"""A seal goes on where a tombstone or a manifest cannot be read, and not where the store is away (blast radius)."""

from __future__ import annotations

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.layout import CONFIG, LINEAGE, OBJECT_BYTES_MAX

from .chains import another, doubts, name_of, sealed
from .locked import PROTECTIONS, protected
from .refusing import Refusing
from .samples import capture_id


@pytest.fixture(params=PROTECTIONS)
def refusing(request: pytest.FixtureRequest) -> Repository:
    """Three captures, of which the first was forgotten, in a store that can refuse objects."""
    store = Refusing()
    made = protected(request.param, store)
    sealed(made, 1, 2, 3)
    made.forget(capture_id(1))
    return made


def refuse(repository: Repository, *names: str, transient: bool = False) -> None:
    assert isinstance(repository.store, Refusing)
    repository.store.refused = dict.fromkeys(names, transient)


def test_a_tombstone_that_the_storage_refuses_stops_no_seal(refusing: Repository) -> None:
    refuse(refusing, *refusing.store.names(LINEAGE))
    for number in (4, 5):
        sealed(refusing, number)
    assert another(refusing).lineages.next(capture_id(9)).counter == 6


@pytest.mark.parametrize("length", [OBJECT_BYTES_MAX + 1, 0])
def test_a_tombstone_that_is_too_long_or_empty_stops_no_seal_and_is_damaged(refusing: Repository, length: int) -> None:
    (name,) = refusing.store.names(LINEAGE)
    refusing.store.put_many([(name, bytes(length))])
    (after,) = sealed(refusing, 4)
    assert after.lineage is not None
    assert after.lineage.counter == 4
    assert name in doubts(refusing)[-1]


@pytest.mark.parametrize("what", ["tombstone", "manifest"])
@pytest.mark.parametrize("transient", [True, False])
def test_while_the_store_is_away_nothing_is_sealed_upon_what_it_does_not_give(
    refusing: Repository, what: str, *, transient: bool
) -> None:
    """Transient trouble passes; where the config is refused too it is not the one object."""
    names = (
        [*refusing.store.names(LINEAGE)] if what == "tombstone" else [name_of(refusing, number) for number in (2, 3)]
    )
    fresh = another(refusing)
    refuse(refusing, *names, *(() if transient else [CONFIG]), transient=transient)
    with pytest.raises(RepositoryNotReadable):
        fresh.lineages.next(capture_id(9))
    refuse(refusing, *names)
    assert fresh.lineages.next(capture_id(9)).counter == (4 if what == "tombstone" else 2)
