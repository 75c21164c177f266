"""Chains of captures to test with, and what is doubted of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezeframe.repository import Manifest, Repository
from freezeframe.repository.chain import read_chain
from freezeframe.repository.freshness import Accepted, Pin, against_pin, holes, pin_of, sentences_of
from freezeframe.repository.store import MemoryStore

from .locked import KEY
from .samples import capture_id, disk_of, seal

if TYPE_CHECKING:
    from collections.abc import Sequence


def sealed(repository: Repository, *numbers: int) -> list[Manifest]:
    """Seal captures, and return them as they are stored."""
    for number in numbers:
        seal(repository, number, disk_of(b"a"))
    return [repository.manifest(capture_id(number)) for number in numbers]


def plain_form(repository: Repository, number: int) -> bytes:
    return repository.objects.manifest(capture_id(number))


def objects_of(repository: Repository) -> dict[str, bytes]:
    assert isinstance(repository.store, MemoryStore)
    return repository.store._objects


def another(repository: Repository) -> Repository:
    """The same store, opened by another process."""
    return (
        Repository.open_in(repository.store, KEY)
        if repository.config.authenticated
        else Repository.open_in(repository.store)
    )


def pinned(repository: Repository) -> Pin:
    pin = pin_of(read_chain(repository))
    assert pin is not None
    return pin


def doubts(repository: Repository, pin: Pin | None = None, accepted: Sequence[Accepted] = ()) -> list[str]:
    chain = read_chain(repository)
    return [*(against_pin(chain, pin) if pin else ()), *sentences_of(holes(chain), accepted)]


def name_of(repository: Repository, number: int) -> str:
    """The name of a manifest."""
    return repository.objects.protection.manifest_name(capture_id(number))


def put(repository: Repository, number: int, data: bytes) -> None:
    """Write over a manifest, as whoever can write to the store does."""
    repository.store.put_many([(name_of(repository, number), data)])


def take(repository: Repository, *numbers: int) -> None:
    """Take manifests away, as whoever can write to the store does."""
    for number in numbers:
        repository.store.delete(name_of(repository, number))
