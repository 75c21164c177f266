"""Captures that are sealed at once fork the chain, and each end of a fork is named by a later manifest (A4)."""

from __future__ import annotations

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.lineage import Lineages

from .chains import another, doubts, name_of, pinned, plain_form, put, sealed, take
from .locked import PROTECTIONS, protected
from .samples import capture_id


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest) -> Repository:
    return protected(request.param)


def test_captures_that_are_sealed_at_once_fork_and_that_is_no_fault(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(repository, 1)
    head = repository.lineages.next(capture_id(99))
    monkeypatch.setattr(Lineages, "next", lambda *_: head)
    forks = sealed(repository, 2, 3)
    monkeypatch.undo()
    assert [one.lineage for one in forks] == [head, head]
    (after,) = sealed(repository, 4)
    assert after.lineage is not None
    assert after.lineage.predecessor is not None
    assert (after.lineage.counter, after.lineage.predecessor.capture_id) == (3, capture_id(3))
    assert [one.capture_id for one in after.lineage.others] == [capture_id(2)]
    assert doubts(repository, pinned(repository)) == []
    (last,) = sealed(repository, 5)
    assert last.lineage is not None
    assert last.lineage.others == ()  # each is named once
    assert b'"others"' not in plain_form(repository, 5)


def test_both_ends_of_a_fork_are_missed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another orchestrator seals, between the look for the newest and the put; the loser is older than the pin."""
    sealed(repository, 1)
    late = another(repository)
    head = late.lineages.next(capture_id(2))
    sealed(repository, 3)
    monkeypatch.setattr(late.lineages, "next", lambda _: head)
    sealed(late, 2)
    sealed(repository, 4, 5, 6)
    pin = pinned(repository)
    assert doubts(repository, pin) == []
    data = repository.store.get(name_of(repository, 2))
    take(repository, 2)
    (told,) = doubts(repository, pin)
    assert f"Capture {capture_id(2)} is gone, and nobody has forgotten it" in told
    put(repository, 2, data)
    repository.forget(capture_id(2))
    repository.forget(capture_id(4))  # its tombstone names both
    assert doubts(repository, pin) == []
    (tombstone,) = [
        one for one in repository.lineages.tombstones().read.values() if one.captures[0].capture_id == capture_id(4)
    ]
    assert [one.capture_id for one in tombstone.captures[0].named] == [capture_id(3), capture_id(2)]
