"""A copy that is missing, damaged or refused hides no sound one from a reader: set aside, or condemned (R10)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest

from freezeframe.repository import Repository, verify
from freezeframe.repository.aside import Kind
from freezeframe.repository.errors import (
    ChunkDamaged,
    IndexDamaged,
    ObjectDamaged,
    RepositoryError,
    RepositoryNotReadable,
)
from freezeframe.repository.garbage import collect
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import CONDEMNED, DAMAGED, condemned_name, damaged_name

from .locked import PROTECTIONS, protected
from .refusing import Refusing, refused_with
from .samples import NOW, capture_id, disk_of, read_disk, seal
from .test_aside_durably import KINDS
from .test_restraint import flipped, object_of

pytestmark = pytest.mark.case("R10")

DISK = disk_of(b"a")


def away() -> Exception:
    return RepositoryNotReadable("The server is away.", transient=True)


def too_long() -> Exception:
    return ObjectDamaged("It claims to have an exabyte.")


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    store = Refusing()
    return protected(request.param, store)


def refusing(repository: Repository) -> Refusing:
    assert isinstance(repository.store, Refusing)
    return repository.store


def refuse(repository: Repository, name: str, error: Callable[[], Exception]) -> None:
    """Refuse that object too, with that error."""
    store = refusing(repository)
    others = store.refusal
    store.refusal = lambda asked: error() if asked == name else others(asked)


def sealed(repository: Repository, kind: Kind) -> tuple[str, str, bytes]:
    """Return a capture's index, and the name and the stored bytes of the index, or of its only chunk."""
    manifest = seal(repository, 1, DISK)
    _, name = object_of(repository, manifest, kind)
    return manifest.guests[0].disks[0].index, name, repository.store.get(name)


def spoil(repository: Repository, name: str, data: bytes, how: str) -> None:
    """Have the object of that name be missing, damaged or refused."""
    if how == "missing":
        repository.store.delete(name)
        return
    damaged = {"flipped": flipped(data), "cut": data[:9]}
    repository.store.put_many([(name, damaged.get(how, data))])
    errors: dict[str, Callable[[], Exception]] = {
        "too long": too_long,
        "EIO": partial(refused_with, errno.EIO, name),
        "EACCES": partial(refused_with, errno.EACCES, name),
    }
    if how in errors:
        refuse(repository, name, errors[how])


def place_of(repository: Repository, name: str, where: str) -> str:
    if where == "condemned":
        record = RunRecord(run_id=capture_id(7), begun_at=NOW, finished_at=NOW)
        Records(repository.objects).put(record)
        return condemned_name(record.run_id, name)
    return damaged_name(name) if where == "set aside" else f"{damaged_name(name)}G{'0' * 32}"


HOW = ["missing", "flipped", "cut", "too long", "EIO", "EACCES"]


@KINDS
@pytest.mark.parametrize("where", ["set aside", "name of its own", "condemned"])
@pytest.mark.parametrize("how", HOW)
def test_a_sound_copy_is_read_whatever_is_under_the_own_name(
    held: Repository, kind: Kind, where: str, how: str
) -> None:
    index, name, data = sealed(held, kind)
    held.store.put_many([(place_of(held, name, where), data)])
    spoil(held, name, data, how)
    assert read_disk(held, index) == DISK


@KINDS
@pytest.mark.parametrize("own", ["missing", "flipped"])
@pytest.mark.parametrize("how", HOW)
def test_a_copy_that_is_set_aside_hides_no_other(held: Repository, kind: Kind, own: str, how: str) -> None:
    index, name, data = sealed(held, kind)
    spoil(held, name, data, own)
    spoil(held, damaged_name(name), data, how)
    held.store.put_many([(f"{damaged_name(name)}G{'0' * 32}", data)])
    assert read_disk(held, index) == DISK


@KINDS
@pytest.mark.parametrize("own", ["missing", "flipped"])
@pytest.mark.parametrize("how", ["missing", "flipped", "too long", "EIO"])
def test_without_a_sound_copy_the_damage_is_told_as_it_was_found(
    held: Repository, kind: Kind, own: str, how: str
) -> None:
    index, name, data = sealed(held, kind)
    spoil(held, name, data, own)
    spoil(held, damaged_name(name), data, how)
    error = ChunkDamaged if kind is Kind.CHUNK else IndexDamaged
    with pytest.raises(error) as told:
        read_disk(held, index)
    assert ("is missing" in told.value.message) == (own == "missing")


@KINDS
@pytest.mark.parametrize("own", ["missing", "flipped"])
def test_a_copy_that_may_be_sound_and_is_refused_is_not_called_missing(held: Repository, kind: Kind, own: str) -> None:
    index, name, data = sealed(held, kind)
    spoil(held, name, data, own)
    spoil(held, damaged_name(name), data, "EACCES")
    with pytest.raises(RepositoryNotReadable):
        read_disk(held, index)


@KINDS
@pytest.mark.parametrize("of", ["own name", "set aside"])
def test_a_store_that_is_away_is_asked_no_further(held: Repository, kind: Kind, of: str) -> None:
    index, name, data = sealed(held, kind)
    first = damaged_name(name)
    held.store.put_many([(first, flipped(data)), (f"{first}G{'0' * 32}", data)])
    if of == "own name":
        refuse(held, name, away)
    else:
        held.store.delete(name)
        refuse(held, first, away)
    refusing(held).asked.clear()
    with pytest.raises(RepositoryError) as told:
        read_disk(held, index)
    assert told.value.transient
    assert f"{first}G{'0' * 32}" not in refusing(held).asked


def test_what_is_sound_under_its_own_name_costs_one_read(held: Repository) -> None:
    index, name, _ = sealed(held, Kind.CHUNK)
    refusing(held).asked.clear()
    assert read_disk(held, index) == DISK
    assert refusing(held).asked == [held.objects.protection.index_name(bytes.fromhex(index)), name]


@KINDS
def test_who_verifies_finds_the_damage_and_puts_the_sound_copy_back(held: Repository, kind: Kind) -> None:
    index, name, data = sealed(held, kind)
    held.store.put_many([(damaged_name(name), data), (name, flipped(data))])
    assert not verify(held, held.manifests()).sound
    reports = [verify(held, held.manifests(), set_aside=True) for _ in range(2)]
    assert sum(len(one.put_back) for one in reports) == 1
    assert held.store.get(name) == data
    assert read_disk(held, index) == DISK
    assert list(held.store.names(DAMAGED)) == []


def test_garbage_is_collected_by_an_index_that_is_set_aside_and_sound(held: Repository) -> None:
    """A damaged one under its own name stopped every run, though it can be read."""
    index, name, data = sealed(held, Kind.INDEX)
    held.store.put_many([(damaged_name(name), data), (name, flipped(data))])
    assert collect(held, clock=held.sessions.clock).captures == 1
    assert list(held.store.names(CONDEMNED)) == []
    assert read_disk(held, index) == DISK


@pytest.mark.parametrize("own", ["missing", "flipped"])
def test_a_capture_is_sealed_by_an_index_that_was_set_aside_and_is_sound(held: Repository, own: str) -> None:
    """By a host with bad memory, after its writer has stored it."""
    _, name, data = sealed(held, Kind.INDEX)
    manifest = held.manifest(capture_id(1))
    held.forget(capture_id(1))
    held.store.put_many([(damaged_name(name), data)])
    spoil(held, name, data, own)
    held.write_manifest(manifest)
    assert held.is_sealed(capture_id(1))
