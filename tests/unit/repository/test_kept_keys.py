"""A writer that rewrites a document keeps the keys that it does not know, and writes over no newer one (R4)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from freezeframe.repository import Repository, Tier
from freezeframe.repository.crypto import NO_KEY
from freezeframe.repository.document import canonical, checked, checksum_of, parse
from freezeframe.repository.layout import session_name, verified_name
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.suspects import Suspect
from freezeframe.repository.verify.folders import oldest_folders
from freezeframe.repository.verify.record import (
    IndexesRecord,
    Verified,
    read_folder,
    read_records,
    write_folder,
    write_indexes,
    write_restored,
)

from .locked import KEY, PROTECTIONS, locked, protected
from .samples import capture_id, disk_of, seal

pytestmark = pytest.mark.case("R4")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SUSPECT = Suspect(
    capture_id=capture_id(1),
    index="ab" * 32,
    guest="db1",
    target="vda",
    found_by=capture_id(2),
    found_at=NOW,
    reason="x",
)


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest) -> Repository:
    return protected(request.param)


def stored(repository: Repository, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(repository.objects.protection.reveal(name, repository.store.get(name)))
    return content


def extend(repository: Repository, name: str, **more: Any) -> None:
    """Give a document more keys."""
    content = {**stored(repository, name), **more}
    data = repository.objects.protection.protect(name, checked(content))
    repository.store.put_many([(name, bytes(data))])


def names(repository: Repository, folder: str) -> list[str]:
    return list(repository.store.names(folder))


def test_the_end_of_a_session_keeps_them(repository: Repository) -> None:
    repository.sessions.begin(capture_id(1), "x")
    extend(repository, session_name(capture_id(1)), more={"a": 1}, critical=["state"])
    repository.sessions.end(capture_id(1), sealed=True)
    found = stored(repository, session_name(capture_id(1)))
    assert (found["more"], found["critical"], found["state"]) == ({"a": 1}, ["state"], "sealed")


def test_a_mark_that_is_written_again_keeps_them(repository: Repository) -> None:
    repository.suspects.mark(SUSPECT)
    (name,) = names(repository, "verified")
    extend(repository, name, more=1)
    repository.suspects.mark(SUSPECT.model_copy(update={"reason": "another"}))
    assert (stored(repository, name)["more"], stored(repository, name)["reason"]) == (1, "another")
    repository.suspects.note_verified([SUSPECT.capture_id], NOW)
    assert (stored(repository, name)["more"], stored(repository, name)["verified_at"]) == (1, "2026-03-01T12:00:00Z")


def test_a_newer_mark_is_not_written_over(repository: Repository) -> None:
    repository.suspects.mark(SUSPECT)
    (name,) = names(repository, "verified")
    extend(repository, name, more=1, critical=["more"])
    before = repository.store.get(name)
    repository.suspects.mark(SUSPECT)
    assert repository.suspects.note_verified([SUSPECT.capture_id], NOW) == []
    repository.suspects.clear([SUSPECT.capture_id])
    assert repository.store.get(name) == before
    assert repository.suspects.marked().has(SUSPECT.capture_id, SUSPECT.index)


def test_a_record_of_verification_keeps_them_but_for_what_was_said_of_the_look_before(repository: Repository) -> None:
    look = Verified(at=NOW, chunks=1, bytes=1)
    name = verified_name("ab")
    write_folder(repository.objects, "ab", Tier.REHASHED, look)
    tiers = {tier: {**look.model_dump(mode="json"), "cpu": 7} for tier in ("present", "rehashed", "booted")}
    extend(repository, name, more=1, tiers=tiers)
    write_folder(repository.objects, "ab", Tier.REHASHED, look.model_copy(update={"chunks": 2}))
    found = stored(repository, name)
    assert found["more"] == 1
    assert found["tiers"]["present"]["cpu"] == found["tiers"]["booted"]["cpu"] == 7
    assert found["tiers"]["rehashed"] == {**look.model_dump(mode="json"), "chunks": 2}
    write_indexes(repository.objects, IndexesRecord(at=NOW, captures=1, indexes=1))
    write_restored(repository.objects, {capture_id(1): NOW})
    for what in ("indexes", "restored"):
        extend(repository, verified_name(what), more=1)
    write_indexes(repository.objects, IndexesRecord(at=NOW, captures=2, indexes=2))
    write_restored(repository.objects, {capture_id(2): NOW})
    assert (stored(repository, verified_name("indexes"))["more"], read_records(repository.objects).indexes) == (
        1,
        parse(IndexesRecord, checked(stored(repository, verified_name("indexes")))),
    )
    assert stored(repository, verified_name("indexes"))["captures"] == 2
    assert stored(repository, verified_name("restored"))["more"] == 1
    assert set(stored(repository, verified_name("restored"))["captures"]) == {capture_id(1), capture_id(2)}


def test_a_newer_record_of_verification_is_left_alone_and_its_folder_comes_last(repository: Repository) -> None:
    look = Verified(at=NOW, chunks=1, bytes=1)
    write_folder(repository.objects, "00", Tier.REHASHED, look)
    write_indexes(repository.objects, IndexesRecord(at=NOW, captures=1, indexes=1))
    write_restored(repository.objects, {capture_id(1): NOW})
    for what in ("00", "indexes", "restored"):
        extend(repository, verified_name(what), more=1, critical=["more"])
    before = {name: repository.store.get(name) for name in names(repository, "verified")}
    write_folder(repository.objects, "00", Tier.REHASHED, look)
    write_indexes(repository.objects, IndexesRecord(at=NOW, captures=1, indexes=1))
    write_restored(repository.objects, {capture_id(1): NOW})
    assert {name: repository.store.get(name) for name in names(repository, "verified")} == before
    records = read_records(repository.objects)
    assert records.newer == {"00"}
    assert not records.folders
    assert records.indexes is None
    assert read_folder(repository.objects, "00") is None
    assert records.never(Tier.REHASHED) == 256
    assert oldest_folders(records, Tier.REHASHED, Fraction(1))[-1] == "00"


def test_a_config_with_unknown_keys_is_authentic(repository: Repository) -> None:
    """The MAC is of what is stored."""
    store = repository.store
    content = {**json.loads(store.get("config")), "more": 1}
    content.pop("checksum")
    if repository.config.authenticated:
        content.pop("mac")
        _, keys = repository.encryption
        bare = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        content["mac"] = keys.config_mac(bare).hex()
    store.put_many([("config", checked(content))])
    assert (
        Repository.open_in(store, KEY if repository.config.authenticated else NO_KEY).config.id == repository.config.id
    )


def test_a_key_slot_with_unknown_keys_opens() -> None:
    store = MemoryStore()
    repository = locked(store)
    (name,) = names(repository, "keys")
    content = {**json.loads(store.get(name)), "more": 1}
    content.pop("checksum")
    store.put_many([(name, canonical({**content, "checksum": checksum_of({**content, "name": name})}))])
    slots, keys = Repository.open_in(store, KEY).encryption
    assert [len(one) for one in slots.list(keys)] == [1, 0]


def test_a_capture_with_unknown_keys_is_sealed_once(repository: Repository) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    name = repository.objects.protection.manifest_name(manifest.capture_id)
    extend(repository, name, more=1)
    found = repository.manifest(manifest.capture_id)
    assert found.unplaced().model_dump() == manifest.model_dump()
    repository.write_manifest(found)
