"""A UUID means that guest and nothing else, also where libvirt has let another guest be named so."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any, cast

import pytest

from freezeframe.contract.retention import Selection
from freezeframe.naming import is_uuid, meant, virsh_word, words_of
from tests.odd_names import ODD_NAMES
from workers.commands import detach, thaw
from workers.commands.named import named
from workers.hypervisor.errors import GuestGoneError

A, B = "00000000-0000-4000-8000-00000000000a", "abcdef00-0000-4000-8000-00000000000b"
ALPHA, NAMED_LIKE_IT = SimpleNamespace(uuid=A, name="alpha"), SimpleNamespace(uuid=B, name=A)


class Here:
    """A libvirt with these guests."""

    def __init__(self, *guests: SimpleNamespace) -> None:
        self.guests = guests

    def domains(self) -> list[SimpleNamespace]:
        return list(self.guests)

    def domain(self, uuid: str) -> SimpleNamespace:
        return next(one for one in self.guests if one.uuid == uuid)


def found(word: str, *guests: SimpleNamespace) -> list[str]:
    return [one.uuid for one in meant(word, guests, lambda one: str(one.uuid), lambda one: str(one.name))]


@pytest.mark.case("I5")
@pytest.mark.parametrize("word", [A, A.upper()])
def test_a_uuid_means_that_guest_and_never_one_that_is_named_so(word: str) -> None:
    assert found(word, NAMED_LIKE_IT, ALPHA) == [A]
    assert found(word, NAMED_LIKE_IT) == []
    assert found(B, NAMED_LIKE_IT) == [B]


@pytest.mark.case("I5")
@pytest.mark.parametrize("verb", [detach, thaw])
@pytest.mark.parametrize("word", [A, A.upper(), "alpha"])
def test_a_verb_of_the_host_takes_the_guest_that_is_meant(verb: Any, word: str) -> None:
    here = cast("Any", Here(ALPHA, NAMED_LIKE_IT))
    assert [one.uuid for one in verb._chosen(here, [word, word])] == [A]
    with pytest.raises(GuestGoneError, match=A):
        verb._chosen(cast("Any", Here(NAMED_LIKE_IT)), [A])


def test_guests_are_named_each_once_and_in_order() -> None:
    domains = cast("Any", [ALPHA, NAMED_LIKE_IT])
    assert [one.uuid for one in named(domains, [B, "alpha", A])] == [B, A]


@pytest.mark.case("I5")
@pytest.mark.parametrize("word", [A, A.upper()])
def test_captures_are_selected_by_a_uuid_and_not_by_a_name_like_it(word: str) -> None:
    """`forget --guest` and `captures --guest`."""
    selection = Selection(guests=(word,))
    assert selection.has(words_of(A, "alpha"), None, ())
    assert not selection.has(words_of(B, A), None, ())
    assert not selection.has(words_of(B, A.upper()), None, ())


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_other_name_is_a_word_for_its_guest(name: str) -> None:
    assert not is_uuid(name)
    assert words_of(A, name) == {A, name}
    assert found(name, SimpleNamespace(uuid=A, name=name)) == [A]


@pytest.mark.parametrize("name", [B, B.upper(), B.replace("-", ""), A])
def test_virsh_is_told_the_uuid_of_a_guest_whose_name_it_would_take_for_anothers(name: str) -> None:
    """`virsh` tries a word as an id, then as a UUID with or without dashes, then as a name."""
    assert shlex.split(virsh_word(name, A)) == [A]
    assert virsh_word("web-1", A) == "web-1"
