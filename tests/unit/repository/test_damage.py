"""Whatever becomes of an object's bytes, each reader either gives what it gave before or says which object is damaged.

Never another exception, never other bytes. What `present` and `decodable` do not look at, they do not see.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Manifest, Repository, Tier, VerifyReport, document, verify
from freezeframe.repository.crypto import NO_KEY, KeySource, Suite
from freezeframe.repository.store import MemoryStore
from tests.long import LONG

from .damage import Damage, Objects, Sort, fill, locked_with_two_slots, words_for
from .locked import KEY, PROTECTIONS, protected
from .samples import capture_id, read_disk


class Sample(NamedTuple):
    """A repository, the secret for it, and what readers gave when it was sound."""

    objects: Objects
    key: KeySource
    words: dict[str, list[str]]
    manifests: list[Manifest]
    sound: dict[str, object]


@cache
def sample(protection: str) -> Sample:
    store = MemoryStore()
    repository = (
        protected(protection, store) if protection == "plain" else locked_with_two_slots(store, Suite(protection))
    )
    manifests = fill(repository)
    key: KeySource = NO_KEY if protection == "plain" else KEY
    objects = dict(store._objects)
    sound = {verb: look() for verb, look in readers(Repository.open_in(store, key), manifests).items()}
    return Sample(objects, key, words_for(repository, manifests), manifests, {"open": repository.config, **sound})


def readers(repository: Repository, manifests: list[Manifest]) -> dict[str, Callable[[], object]]:
    """Every way to read, by the verb that does."""
    told: list[str] = []

    def slots() -> object:
        found, keys = repository.encryption
        return found.list(keys)

    verbs: dict[str, Callable[[], object]] = {
        "captures": lambda: (repository.manifests(lambda error: told.append(error.message)), tuple(told)),
        "show 1": lambda: repository.manifest(capture_id(1)),
        "show 2": lambda: repository.manifest("latest"),
    }
    if repository.config.authenticated:
        verbs["key list"] = slots
    for tier in Tier:
        verbs[f"verify {tier}"] = lambda tier=tier: verify(repository, manifests, tier)  # type: ignore[misc]
    for manifest in manifests:
        for _, disk in manifest.disks():
            name = f"restore {manifest.capture_id} {disk.target}"
            verbs[name] = lambda disk=disk: read_disk(repository, disk.index)  # type: ignore[misc]
    return verbs


def outcomes(found: Sample, objects: Objects, wanted: Container[str] | None = None) -> dict[str, object]:
    """What each reader, or each of those `wanted`, gives, or the error that it ends with."""
    store = MemoryStore()
    for name, data in objects.items():
        store.put(name, BytesIO(data))
    try:
        repository = Repository.open_in(store, found.key)
    except FreezeframeError as error:
        return {"open": error}
    given: dict[str, object] = {"open": repository.config}
    for verb, look in readers(repository, found.manifests).items():
        if wanted is not None and verb not in wanted:
            continue
        try:
            given[verb] = look()
        except FreezeframeError as error:
            given[verb] = error
    return given


def text_of(outcome: object) -> str:
    return outcome.message if isinstance(outcome, FreezeframeError) else repr(outcome)


def answered(verb: str, outcome: object, sound: object, words: list[str]) -> bool:
    """Whether the reader gave what it gave before, or named what is damaged."""
    if isinstance(outcome, VerifyReport) and isinstance(sound, VerifyReport):
        if replace(outcome, bytes_read=0, chunks_checked=0) == replace(sound, bytes_read=0, chunks_checked=0):
            return True
    elif outcome == sound:
        return True
    telling = isinstance(outcome, (FreezeframeError, VerifyReport)) or verb in {"captures", "key list"}
    return telling and any(word in text_of(outcome) for word in words)


damages = st.builds(
    Damage, st.sampled_from(Sort), st.integers(0, 30), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=20)
)


@pytest.mark.parametrize("protection", PROTECTIONS)
@settings(max_examples=5000 if LONG else 150)
@given(damage=damages)
def test_damage_to_any_object_is_named_or_harms_nothing(protection: str, damage: Damage) -> None:
    found = sample(protection)
    objects, damaged = damage.done_to(found.objects)
    words = [word for name in damaged for word in (name, *found.words.get(name, []))]
    for verb, outcome in outcomes(found, objects).items():
        assert answered(verb, outcome, found.sound[verb], words), (verb, damaged, text_of(outcome))


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_every_bit_of_the_documents(protection: str) -> None:
    """Config, key slots and manifests: what only a checksum protects. Every bit in a long run, else every ninth."""
    found = sample(protection)
    for nth, name in enumerate(sorted(found.objects)):
        if name.startswith(("config", "keys/", "manifests/")):
            words = (name, *found.words.get(name, []))
            for bit in range(0, len(found.objects[name]) * 8, 1 if LONG else 9):
                objects, _ = Damage(Sort.FLIPPED, nth, bit).done_to(found.objects)
                given = outcomes(found, objects, ("captures", "key list"))
                told = any(word in text_of(one) for one in given.values() for word in words)
                assert told or all(one == found.sound[verb] for verb, one in given.items()), (name, bit)


def test_an_unchecked_document_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without the checksum a flipped bit of a plain repository is another one."""
    monkeypatch.setattr(document, "is_whole", lambda _: True)
    with pytest.raises(AssertionError):
        test_every_bit_of_the_documents("plain")
