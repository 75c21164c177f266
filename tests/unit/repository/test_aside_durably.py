"""Setting aside: in which order things are made durable, and what is left alone when something is not as expected."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from freezeframe.repository import Repository, aside, verify
from freezeframe.repository.aside import Kind, Verdict, clear, list_aside, look_aside, put_back, set_aside
from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.layout import DAMAGED, damaged_document, damaged_name, folder_of
from freezeframe.repository.store import MemoryStore

from .locked import PROTECTIONS, protected
from .samples import disk_of, read_disk, seal
from .test_aside import Flaky, first_chunk, flaky, pass_, spoil


class Ordered(Flaky):
    """Knows in which order objects were moved, deleted and settled."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def move(self, name: str, to: str, *rest: object) -> None:
        MemoryStore.move(self, name, to)
        self.done = [one for one in self.done if one != f"delete {name}"] + [f"move {to}"]

    def delete(self, name: str) -> None:
        super().delete(name)
        self.done.append(f"delete {name}")

    def settle(self, folders: Iterable[str]) -> None:
        self.done.append(f"settle {' '.join(sorted(folders))}")


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    store = Ordered()
    return protected(request.param, store)


def done(repository: Repository) -> list[str]:
    assert isinstance(repository.store, Ordered)
    return repository.store.done


def of_kind(repository: Repository, kind: Kind) -> tuple[bytes, str]:
    """The digest and the name of a sealed capture's only chunk, or of its index."""
    index = seal(repository, 1, disk_of(b"a")).guests[0].disks[0].index
    digest = first_chunk(repository, index) if kind is Kind.CHUNK else bytes.fromhex(index)
    return digest, aside.first_name(repository.objects, kind, digest)


KINDS = pytest.mark.parametrize("kind", list(Kind))


@KINDS
def test_what_is_set_aside_or_put_back_is_durable_in_both_folders(held: Repository, kind: Kind) -> None:
    """Else a power cut could bring the damaged one back in the place of what was written anew."""
    digest, name = of_kind(held, kind)
    spoil(held, name)
    done(held).clear()
    assert set_aside(held.objects, kind, digest, "it is damaged")
    both = " ".join(sorted([DAMAGED, folder_of(name)]))
    assert done(held) == [f"move {damaged_name(name)}", f"settle {both}"]
    done(held).clear()
    put_back(held.objects, kind, digest, damaged_name(name), alone=True)
    assert done(held) == [f"move {name}", f"settle {both}", f"delete {damaged_document(name)}"]


@KINDS
def test_an_object_goes_for_good_before_its_document(held: Repository, kind: Kind) -> None:
    digest, name = of_kind(held, kind)
    spoil(held, name)
    assert set_aside(held.objects, kind, digest, "it is damaged")
    (one,) = list_aside(held.objects)
    done(held).clear()
    assert clear(held.objects, one, lambda _: True)
    moved, settled, *gone = done(held)
    own = moved.removeprefix("move ")
    assert own.startswith(f"{damaged_name(name)}G")
    assert settled == f"settle {DAMAGED} {DAMAGED}"
    assert gone == [f"delete {own}", f"settle {DAMAGED}", f"delete {damaged_document(name)}"]


@KINDS
def test_what_is_needed_after_all_stays_out_of_everybodys_reach_and_is_put_back(held: Repository, kind: Kind) -> None:
    """Another has moved a sound one there since it was looked at, and its first name has none."""
    digest, name = of_kind(held, kind)
    spoil(held, name)
    assert set_aside(held.objects, kind, digest, "it is damaged")
    (one,) = list_aside(held.objects)
    spoil(held, damaged_name(name))
    assert not clear(held.objects, one, lambda _: False)
    (left,) = list_aside(held.objects)
    assert left.document == one.document
    assert left.has_object
    assert not held.store.exists(damaged_name(name))
    assert verify(held, held.manifests(), set_aside=True).put_back == (digest.hex(),)
    assert held.store.exists(name)
    assert list_aside(held.objects) == []


@KINDS
def test_what_was_sound_after_all_is_back_where_it_was(held: Repository, kind: Kind) -> None:
    digest, name = of_kind(held, kind)
    assert not set_aside(held.objects, kind, digest, "a machine with bad memory said so")
    assert held.store.exists(name)
    assert list_aside(held.objects) == []


@KINDS
def test_what_is_set_aside_is_read_past_the_cache_before_it_is_judged(held: Repository, kind: Kind) -> None:
    digest, name = of_kind(held, kind)
    spoil(held, name)
    assert set_aside(held.objects, kind, digest, "it is damaged")
    assert flaky(held).dropped == [damaged_name(name)]
    assert look_aside(held.objects, kind, digest, damaged_name(name)) is Verdict.DAMAGED
    spoil(held, damaged_name(name))
    assert look_aside(held.objects, kind, digest, damaged_name(name)) is Verdict.SOUND


@KINDS
def test_what_is_gone_meanwhile_is_not_set_aside(held: Repository, kind: Kind) -> None:
    digest, name = of_kind(held, kind)
    held.store.delete(name)
    assert not set_aside(held.objects, kind, digest, "it is damaged")
    assert not held.store.exists(damaged_name(name))


def test_who_takes_a_claim_over_says_why_in_its_own_words(held: Repository) -> None:
    digest, name = of_kind(held, Kind.CHUNK)
    spoil(held, name)
    held.store.delete(name)
    assert not set_aside(held.objects, Kind.CHUNK, digest, "the first, who died")
    pass_(held, hours=2)
    set_aside(held.objects, Kind.CHUNK, digest, "the second")
    (one,) = list_aside(held.objects)
    assert one.document is not None
    assert one.document.reason == "the second"


def test_a_store_that_is_away_says_nothing_of_what_is_set_aside(
    held: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, name = of_kind(held, Kind.CHUNK)
    spoil(held, name)
    assert set_aside(held.objects, Kind.CHUNK, digest, "it is damaged")

    def away(*_: object) -> bytes:
        raise RepositoryNotReadable("no answer", transient=True)

    monkeypatch.setattr(Ordered, "get", away)
    with pytest.raises(RepositoryNotReadable):
        look_aside(held.objects, Kind.CHUNK, digest, damaged_name(name))


def test_what_somebody_has_put_beside_is_passed_over(held: Repository) -> None:
    manifest = seal(held, 1, disk_of(b"a"))
    held.store.put_many([(f"{DAMAGED}/README", b"somebody's"), (f"{DAMAGED}/notes.json", b"{}")])
    assert list_aside(held.objects) == []
    assert verify(held, [manifest], set_aside=True).sound
    assert read_disk(held, manifest.guests[0].disks[0].index) == disk_of(b"a")
    assert held.store.exists(f"{DAMAGED}/README")
