"""Clearing: what nobody needs any more is deleted from `damaged/`, and nothing that somebody may need, or that may be sound."""

from __future__ import annotations

import errno

import pytest

from freezeframe.repository import Repository, aside, verify
from freezeframe.repository.aside import Kind, Verdict, look_aside, set_aside
from freezeframe.repository.layout import DAMAGED, damaged_document

from .locked import PROTECTIONS, protected
from .refusing import Refusing, refused_with
from .samples import capture_id, disk_of, read_disk, seal
from .test_aside import Flaky, first_chunk, pass_
from .test_aside_durably import KINDS

UNREADABLE = pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.EIO])


class Store(Refusing, Flaky):
    """In memory; what lies in `damaged/` may be refused."""


def refuse_aside(repository: Repository, number: int | None) -> None:
    """Refuse to read what lies in `damaged/`, with that error; give documents. With None give all again."""

    def refusal(name: str) -> Exception | None:
        aside = name.startswith(DAMAGED) and not name.endswith(".json")
        return refused_with(number, name) if number is not None and aside else None

    assert isinstance(repository.store, Store)
    repository.store.refusal = refusal


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    store = Store()
    return protected(request.param, store)


def flip(repository: Repository, name: str) -> None:
    data = repository.store.get(name)
    repository.store.put_many([(name, data[:-1] + bytes([data[-1] ^ 1]))])


def object_of(repository: Repository, kind: Kind) -> tuple[bytes, str]:
    """Return the digest and the name of a sealed capture's only chunk, or of its index."""
    index = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
    with repository.index(index) as opened:
        chunk = next(digest for _, digest in opened.used_slots())
    digest = chunk if kind is Kind.CHUNK else bytes.fromhex(index)
    return digest, aside.first_name(repository.objects, kind, digest)


def objects_aside(repository: Repository) -> list[str]:
    return [name for name in repository.store.names(DAMAGED) if not name.endswith(".json")]


def set_aside_sound(repository: Repository, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, str]:
    """Have a host with bad memory set a sound object aside; return its digest and its place in `damaged/`."""
    digest, _ = object_of(repository, kind)
    with monkeypatch.context() as patch:
        patch.setattr(aside, "look_aside", lambda *_: Verdict.DAMAGED)
        assert set_aside(repository.objects, kind, digest, "a machine with bad memory said so")
    (place,) = objects_aside(repository)
    return digest, place


@KINDS
@UNREADABLE
def test_only_what_the_medium_has_lost_is_damaged_and_any_other_refusal_says_nothing(
    held: Repository, monkeypatch: pytest.MonkeyPatch, kind: Kind, number: int
) -> None:
    digest, place = set_aside_sound(held, kind, monkeypatch)
    assert look_aside(held.objects, kind, digest, place) is Verdict.SOUND
    refuse_aside(held, number)
    found = look_aside(held.objects, kind, digest, place)
    assert found is (Verdict.DAMAGED if number == errno.EIO else Verdict.UNKNOWN)


@KINDS
@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.ENOTCONN])
def test_what_a_verifier_may_not_read_is_not_deleted_by_it(
    held: Repository, monkeypatch: pytest.MonkeyPatch, kind: Kind, number: int
) -> None:
    """No capture refers to it any more, and it is sound: nobody who cannot read it knows that it is not needed."""
    _, place = set_aside_sound(held, kind, monkeypatch)
    held.forget(capture_id(1))
    held.store.delete(next(iter(held.store.names("forgotten"))))
    pass_(held, days=9)
    refuse_aside(held, number)
    report = verify(held, held.manifests(), set_aside=True)
    assert objects_aside(held) == [place]
    assert place in report.notes[0]
    refuse_aside(held, None)
    assert len(verify(held, held.manifests(), set_aside=True).put_back) == 1
    assert objects_aside(held) == []


@KINDS
def test_what_becomes_unreadable_on_its_way_out_is_not_deleted(
    held: Repository, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """It looked damaged at the first look, by a bad read."""
    digest, _ = set_aside_sound(held, kind, monkeypatch)
    held.forget(capture_id(1))
    held.store.delete(next(iter(held.store.names("forgotten"))))
    pass_(held, days=9)
    move = held.store.move

    def moved(name: str, to: str) -> None:
        move(name, to)
        refuse_aside(held, errno.EACCES)

    refuse_aside(held, errno.EIO)
    monkeypatch.setattr(held.store, "move", moved)
    verify(held, held.manifests(), set_aside=True)
    (place,) = objects_aside(held)
    refuse_aside(held, None)
    assert look_aside(held.objects, kind, digest, place) is Verdict.SOUND


@KINDS
def test_what_cannot_be_read_after_it_was_set_aside_stays_there(held: Repository, kind: Kind) -> None:
    """To move it back could put it in the place of what was written anew."""
    digest, name = object_of(held, kind)
    flip(held, name)
    refuse_aside(held, errno.EACCES)
    assert set_aside(held.objects, kind, digest, "it is damaged")
    assert len(objects_aside(held)) == 1
    refuse_aside(held, None)
    seal(held, 2, disk_of(b"a"))
    assert verify(held, held.manifests(), set_aside=True).repaired == (digest.hex(),)
    assert read_disk(held, held.manifest("latest").guests[0].disks[0].index) == disk_of(b"a")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@KINDS
def test_a_document_that_is_refused_costs_only_what_it_tells_of(
    held: Repository, monkeypatch: pytest.MonkeyPatch, kind: Kind, number: int
) -> None:
    """Its object is neither deleted nor taken for nameless; all else is verified, and set aside."""
    _, place = set_aside_sound(held, kind, monkeypatch)
    other = seal(held, 2, disk_of(b"b"))
    flip(held, held.objects.protection.locate(first_chunk(held, other.guests[0].disks[0].index)))
    pass_(held, days=9)
    get = held.store.get

    def refuse(name: str) -> bytes:
        if name == f"{place}.json":
            raise refused_with(number, name)
        return get(name)

    with monkeypatch.context() as patch:
        patch.setattr(held.store, "get", refuse)
        report = verify(held, held.manifests(), set_aside=True)
    assert f"{place}.json" in report.notes[0]
    assert place in objects_aside(held)
    assert sum(one.set_aside for one in report.chunks) == 1
    assert len(verify(held, held.manifests(), set_aside=True).put_back) == 1


@pytest.mark.parametrize("repaired", [False, True])
def test_a_document_that_is_refused_while_its_object_goes_stays(
    held: Repository, monkeypatch: pytest.MonkeyPatch, *, repaired: bool
) -> None:
    """An object that is repaired goes; one that nobody needs stays, since the document may be another by now."""
    _, name = object_of(held, Kind.CHUNK)
    flip(held, name)
    verify(held, held.manifests(), set_aside=True)
    held.forget(capture_id(1))
    held.store.delete(next(iter(held.store.names("forgotten"))))
    if repaired:
        seal(held, 2, disk_of(b"a"))
    pass_(held, days=9)
    get, move = held.store.get, held.store.move
    moved: list[str] = []

    def refuse(wanted: str) -> bytes:
        if moved and wanted == damaged_document(name):
            raise refused_with(errno.EACCES, wanted)
        return get(wanted)

    def moving(source: str, to: str) -> None:
        move(source, to)
        moved.append(to)

    with monkeypatch.context() as patch:
        patch.setattr(held.store, "get", refuse)
        patch.setattr(held.store, "move", moving)
        verify(held, held.manifests(), set_aside=True)
    assert held.store.exists(damaged_document(name))
    assert len(objects_aside(held)) == (0 if repaired else 1)
