"""Freshness: manifests that are emptied hide no capture that was taken away, and what cannot be read hides nothing (A4)."""

from __future__ import annotations

import json

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.chain import State, read_chain
from freezeframe.repository.document import checked
from freezeframe.repository.errors import (
    ManifestDamaged,
    ManifestNewer,
    ManifestNotReadable,
    NewerFormat,
    RepositoryNotReadable,
    RepositoryRolledBack,
)
from freezeframe.repository.freshness import Pinned, check_chain, check_pin, holes, pin_of
from freezeframe.repository.layout import LINEAGE

from .chains import another, doubts, name_of, pinned, plain_form, put, sealed, take
from .locked import PROTECTIONS, protected
from .refusing import Refusing
from .samples import capture_id


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest) -> Repository:
    """Five captures, one upon the other, in a store that can refuse objects."""
    store = Refusing()
    made = protected(request.param, store)
    sealed(made, 1, 2, 3, 4, 5)
    return made


def refuse(repository: Repository, *names: str) -> None:
    assert isinstance(repository.store, Refusing)
    repository.store.refused = dict.fromkeys(names, False)


def tombstones(repository: Repository) -> list[str]:
    return sorted(repository.store.names(LINEAGE))


@pytest.mark.parametrize("emptied", [(5,), (4, 5), (3, 4, 5)])
@pytest.mark.parametrize("taken", [(), (1,), (1, 2)])
def test_emptied_manifests_hide_no_older_ones_that_were_taken_away(
    repository: Repository, emptied: tuple[int, ...], taken: tuple[int, ...]
) -> None:
    pin = pinned(repository)
    for number in emptied:
        put(repository, number, b"")
    take(repository, *taken)
    told = doubts(repository, pin)
    assert any("which was pinned, is damaged" in one for one in told)
    for number in emptied:
        assert any(name_of(repository, number) in one or capture_id(number) in one for one in told)
    with pytest.raises(RepositoryRolledBack, match=capture_id(5)):
        check_pin(another(repository), pin)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_where_a_manifest_is_damaged_the_chain_cannot_be_followed(repository: Repository, number: int) -> None:
    pin = pinned(repository)
    put(repository, number, b"{}")
    (told,) = doubts(repository, pin)
    assert capture_id(number) in told
    assert "came before it cannot be told" in told
    (found,) = check_pin(another(repository), pin)  # the pinned one is there: it is as new as it was
    assert isinstance(found, ManifestDamaged)


def test_a_pinned_manifest_that_is_damaged_later_stops_no_restore_of_a_later_one(repository: Repository) -> None:
    pin = pinned(repository)
    sealed(repository, 6)
    put(repository, 5, b"")
    assert [type(one) for one in check_pin(another(repository), pin)] == [ManifestDamaged]
    assert len(doubts(repository, pin)) == 1  # and is told nevertheless


def test_forgetting_a_damaged_one_hides_none_that_only_it_named(repository: Repository) -> None:
    """Whoever damages 3 and takes 2 away waits for 3 to be forgotten, as the advice is."""
    pin = pinned(repository)
    put(repository, 3, b"")
    repository.forget(capture_id(3))
    assert doubts(repository, pin) == []
    take(repository, 2)
    assert doubts(repository, pin) == ["Of the number 2 there is neither a capture nor a tombstone."]
    take(repository, 1)
    assert doubts(repository, pin) == ["Of the numbers 1 to 2 there is neither a capture nor a tombstone."]


def test_damaged_ones_that_were_forgotten_together_have_numbers_that_nobody_knows(repository: Repository) -> None:
    pin = pinned(repository)
    for number in (3, 4):
        put(repository, number, b"")
    repository.forget_all([capture_id(3), capture_id(4)])
    assert doubts(repository, pin) == []
    take(repository, 2)
    assert doubts(repository, pin) == ["Of the numbers 2 to 3 there is neither a capture nor a tombstone."]


@pytest.mark.parametrize("number", range(1, 6))
def test_a_manifest_that_the_storage_refuses_is_unclear_and_no_doubt(repository: Repository, number: int) -> None:
    pin = pinned(repository)
    refuse(repository, name_of(repository, number))
    chain = read_chain(another(repository))
    assert [type(one) for one in chain.unclear] == [ManifestNotReadable]
    assert doubts(repository, pin) == []
    with pytest.raises(RepositoryNotReadable, match=capture_id(number)):
        check_chain(repository, chain, Pinned(pin=pin))
    if number == 5:  # the pinned one, and none was sealed upon it
        with pytest.raises(RepositoryNotReadable, match=capture_id(5)):
            check_pin(another(repository), pin)
    else:
        assert [type(one) for one in check_pin(another(repository), pin)] == [ManifestNotReadable]


def test_a_later_format_with_another_checksum_is_newer_and_not_damaged(repository: Repository) -> None:
    data = json.dumps({**json.loads(plain_form(repository, 2)), "format": 9}).encode()
    put(repository, 2, bytes(repository.objects.protection.protect(name_of(repository, 2), data)))
    chain = read_chain(repository)
    assert [type(one) for one in chain.unclear] == [ManifestNewer]
    assert holes(chain) == []
    with pytest.raises(NewerFormat):
        check_chain(repository, chain, Pinned())


@pytest.mark.parametrize("how", ["refused", "newer"])
def test_a_tombstone_that_cannot_be_read_may_be_of_what_is_gone(repository: Repository, how: str) -> None:
    pin = pinned(repository)
    repository.forget(capture_id(5))
    (name,) = tombstones(repository)
    if how == "refused":
        refuse(repository, name)
    else:
        newer = checked(
            {**json.loads(repository.objects.protection.reveal(name, repository.store.get(name))), "format": 2}
        )
        repository.store.put_many([(name, bytes(repository.objects.protection.protect(name, newer)))])
    assert doubts(repository, pin) == []
    kind = RepositoryNotReadable if how == "refused" else NewerFormat
    with pytest.raises(kind, match=name):
        check_pin(another(repository), pin)
    with pytest.raises(kind, match=name):
        check_chain(repository, read_chain(repository), Pinned(pin=pin))
    assert len(check_pin(another(repository), pinned(repository))) == 1  # that of what is there needs no tombstone


def test_a_hole_is_told_though_something_else_is_unclear(repository: Repository) -> None:
    take(repository, 2)
    refuse(repository, name_of(repository, 4))
    with pytest.raises(RepositoryRolledBack, match=capture_id(2)):
        check_chain(repository, read_chain(repository), Pinned())


def test_while_the_store_is_away_nothing_is_concluded(repository: Repository) -> None:
    pin = pinned(repository)
    assert isinstance(repository.store, Refusing)
    fresh = another(repository)
    repository.store.away = True
    with pytest.raises(RepositoryNotReadable):
        check_pin(fresh, pin)


def test_doubts_that_were_accepted_are_told_no_more_and_others_are(repository: Repository) -> None:
    take(repository, 3)
    put(repository, 1, b"")
    repository.forget(capture_id(5))
    (tombstone,) = tombstones(repository)
    repository.store.put_many([(tombstone, b"")])
    accepted = [one.about for one in holes(read_chain(repository))]
    assert {one.name for one in accepted} >= {capture_id(3), capture_id(1), tombstone}
    assert doubts(repository, accepted=accepted) == []
    take(repository, 2)
    assert doubts(repository, accepted=accepted) != []


def test_a_capture_that_is_gone_for_good_has_another_state_than_one_that_was_replaced(repository: Repository) -> None:
    digest = pinned(repository).digest
    chain = read_chain(repository)
    assert chain.state(capture_id(5), digest) is State.KEPT
    assert chain.state(capture_id(5), "0" * 64) is State.REPLACED
    assert chain.state(capture_id(6), digest) is State.GONE


def test_the_newest_that_can_be_read_is_pinned(repository: Repository) -> None:
    put(repository, 5, b"")
    pin = pin_of(read_chain(repository))
    assert pin is not None
    assert pin.capture_id == capture_id(4)
