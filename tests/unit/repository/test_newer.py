"""What a newer version has written is told as that: never as damage, never set aside, never deleted (R4, invariant 10)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from io import BytesIO
from typing import Any

import pytest

from freezeframe.errors import EXIT_DAMAGED, FreezeframeError
from freezeframe.repository import Manifest, Repository, Tier, verify
from freezeframe.repository.aside import AsideDocument, Kind, list_aside, now, set_aside
from freezeframe.repository.check import check
from freezeframe.repository.chunk import unpack, unseal
from freezeframe.repository.crypto import Secret
from freezeframe.repository.document import canonical, checked, checksum_of
from freezeframe.repository.errors import (
    IndexDamaged,
    ManifestDamaged,
    ManifestNewer,
    ManifestUnreadable,
    NewerFormat,
    RepositoryDamaged,
    WrongKey,
)
from freezeframe.repository.garbage import collect
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import damaged_document, damaged_name, forgotten_name, run_name, session_name
from freezeframe.repository.notice import read_notice
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.verify import verify_share
from freezeframe.repository.verify.record import read_records

from .locked import KEY, PROTECTIONS, SECRET, Key, locked, protected
from .samples import CHUNK, capture_id, disk_capture, disk_of, envelope_of, manifest_of, read_disk, seal

pytestmark = pytest.mark.case("R4")

Change = Callable[[bytes], bytes]


def put(at: int, *values: int) -> Change:
    return lambda data: data[:at] + bytes(values) + data[at + len(values) :]


#: What a later version may say in the header of an envelope: its version, another compression, a flag.
ENVELOPES = {
    "version": put(4, 2),
    "codec": put(5, 2),
    "flag": put(6, 1),
    "high flag": put(7, 0x80),
    "all": put(4, 9, 7, 1),
}
#: And in an index's: its version, another digest, another encoding, flags.
INDEXES = {
    "version": put(4, 2),
    "digest": put(5, 2),
    "encoding": put(6, 2),
    "flag": put(7, 1),
    "second flag": put(22, 1),
}
#: And in a sealed object's.
SEALS = {"version": put(4, 2), "algorithm": put(5, 3), "flag": put(6, 1)}


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest) -> Repository:
    return protected(request.param)


def objects_of(repository: Repository) -> dict[str, bytes]:
    assert isinstance(repository.store, MemoryStore)
    return dict(repository.store._objects)


def put_object(repository: Repository, name: str, data: bytes) -> None:
    repository.store.put_many([(name, bytes(repository.objects.protection.protect(name, data)))])


def revealed(repository: Repository, name: str) -> bytes:
    return repository.objects.protection.reveal(name, repository.store.get(name))


def newer_chunk(repository: Repository, manifest: Manifest, change: Change) -> bytes:
    """Have the first chunk of a capture as a later version would write it."""
    with repository.index(manifest.guests[0].disks[0].index) as index:
        digest = next(digest for _, digest in index.used_slots())
    name = repository.objects.protection.locate(digest)
    put_object(repository, name, change(revealed(repository, name)))
    return digest


def seal_newer_index(repository: Repository, number: int, change: Change, disk: bytes) -> tuple[Manifest, str]:
    """Seal a capture whose index a later version has written."""
    protection = repository.objects.protection
    sealed = seal(repository, number, disk)
    name = protection.index_name(bytes.fromhex(sealed.guests[0].disks[0].index))
    data = change(revealed(repository, name))
    digest = hashlib.sha256(data).digest()
    put_object(repository, protection.index_name(digest), data)
    repository.forget(sealed.capture_id)
    made = manifest_of(number + 1, disk_capture(digest.hex(), len(disk)))
    put_object(repository, protection.manifest_name(made.capture_id), made.to_json())
    return made, digest.hex()


def check_told(error: FreezeframeError) -> None:
    """Nothing in it is about damage, or about taking something away."""
    assert isinstance(error, NewerFormat)
    assert error.exit_code != EXIT_DAMAGED
    assert error.code == ("manifest-newer" if isinstance(error, ManifestNewer) else "newer-format")
    assert "newer version of freezeframe" in error.message
    assert "Update freezeframe" in (error.hint or "")
    for word in ("damage", "forget", "delete", "remove", "restore"):
        assert word not in f"{error.message} {error.hint}".lower()


# Chunks.


@pytest.mark.parametrize("change", ENVELOPES.values(), ids=ENVELOPES)
@pytest.mark.parametrize("read", [lambda data: unpack(data, "x"), lambda data: unseal(data, b"x" * 32)])
def test_an_envelope_of_a_later_form_is_newer(change: Change, read: Callable[[bytes], bytes]) -> None:
    with pytest.raises(NewerFormat) as told:
        read(change(envelope_of(b"a" * CHUNK)))
    check_told(told.value)
    assert not isinstance(told.value, RepositoryDamaged)


def test_a_later_envelope_may_be_another_one_behind_its_version() -> None:
    with pytest.raises(NewerFormat):
        unpack(b"FFck\x02\0\0\0" + b"\xff" * 8 + b"whatever it is", "x")


@pytest.mark.parametrize("change", ENVELOPES.values(), ids=ENVELOPES)
@pytest.mark.parametrize("tier", [Tier.DECODABLE, Tier.REHASHED])
def test_verification_finds_no_damage_in_a_newer_chunk_and_leaves_it_where_it_is(
    repository: Repository, change: Change, tier: Tier
) -> None:
    manifest = seal(repository, 1, disk_of(b"a", b"b"))
    digest = newer_chunk(repository, manifest, change)
    before = objects_of(repository)
    report = verify(repository, [manifest], tier, set_aside=True)
    assert objects_of(repository) == before
    assert report.damage == ()
    assert report.damaged_captures == []
    assert [(one.digest, [place.capture_id for place in one.places]) for one in report.newer] == [
        (digest.hex(), [capture_id(1)])
    ]
    assert report.newer_captures == {capture_id(1)}
    assert "newer version" in report.newer[0].reason


def test_a_share_with_a_newer_chunk_does_not_count_as_verified(repository: Repository) -> None:
    digest = newer_chunk(repository, seal(repository, 1, disk_of(b"a")), ENVELOPES["version"])
    report = verify_share(repository, Fraction(1), set_aside=True)
    assert (report.sound, len(report.newer)) == (True, 1)
    records = read_records(repository.objects)
    folder = repository.objects.protection.locate(digest).split("/")[1]
    assert records.last(folder, Tier.REHASHED) is None
    assert records.never(Tier.REHASHED) == 1


def test_damage_beside_what_is_newer_is_damage(repository: Repository) -> None:
    manifest = seal(repository, 1, disk_of(b"a", b"b"))
    newer = newer_chunk(repository, manifest, ENVELOPES["version"])
    with repository.index(manifest.guests[0].disks[0].index) as index:
        (other,) = (digest for _, digest in index.used_slots() if digest != newer)
    name = repository.objects.protection.locate(other)
    put_object(repository, name, revealed(repository, name)[:-1])
    report = verify(repository, [manifest], set_aside=True)
    assert [one.digest for one in report.chunks] == [other.hex()]
    assert [one.digest for one in report.newer] == [newer.hex()]
    assert repository.store.exists(damaged_name(name))


def test_reading_a_disk_says_that_it_has_a_newer_chunk(repository: Repository) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    newer_chunk(repository, manifest, ENVELOPES["codec"])
    with pytest.raises(NewerFormat) as told:
        read_disk(repository, manifest.guests[0].disks[0].index)
    check_told(told.value)


@pytest.mark.parametrize("change", ENVELOPES.values(), ids=ENVELOPES)
def test_a_newer_chunk_that_an_older_version_has_set_aside_is_put_back(repository: Repository, change: Change) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    digest = newer_chunk(repository, manifest, change)
    name = repository.objects.protection.locate(digest)
    document = AsideDocument(kind=Kind.CHUNK, digest=digest.hex(), found_at=now(), reason="it has no known header")
    put_object(repository, damaged_document(name), document.to_json())
    stored = repository.store.get(name)
    repository.store.move(name, damaged_name(name))
    report = verify(repository, [manifest], set_aside=True)
    assert report.put_back == (digest.hex(),)
    assert report.damage == ()
    assert repository.store.get(name) == stored


@pytest.mark.parametrize("change", SEALS.values(), ids=SEALS)
@pytest.mark.parametrize("kind", ["chunks", "indexes", "manifests"])
def test_an_object_that_was_encrypted_by_a_newer_version_is_newer(kind: str, change: Change) -> None:
    repository = locked()
    manifest = seal(repository, 1, disk_of(b"a"))
    (name,) = (name for name in objects_of(repository) if name.startswith(f"{kind}/"))
    repository.store.put_many([(name, change(repository.store.get(name)))])
    before = objects_of(repository)
    if kind == "manifests":
        told: list[ManifestUnreadable] = []
        assert repository.manifests(on_damaged=told.append) == []
        assert [type(one) for one in told] == [ManifestNewer]
        return
    report = verify(repository, [manifest], set_aside=True)
    assert (report.damage, len(report.newer)) == ((), 1)
    assert objects_of(repository) == before


# Indexes.


@pytest.mark.parametrize("change", INDEXES.values(), ids=INDEXES)
def test_a_newer_index_is_no_damage_for_verification_and_check(repository: Repository, change: Change) -> None:
    manifest, digest = seal_newer_index(repository, 1, change, disk_of(b"a"))
    before = objects_of(repository)
    report = verify(repository, [manifest], set_aside=True)
    assert objects_of(repository) == before
    assert report.damage == ()
    assert [one.digest for one in report.newer] == [digest]
    found = check(repository)
    assert found.sound
    assert not found.garbage.certain
    assert [digest in sentence for sentence in found.newer] == [True]
    with pytest.raises(NewerFormat) as told:
        repository.index(digest)
    check_told(told.value)


def test_an_index_of_other_bytes_is_damaged_whatever_version_it_says(repository: Repository) -> None:
    sealed = seal(repository, 1, disk_of(b"a"))
    digest = sealed.guests[0].disks[0].index
    name = repository.objects.protection.index_name(bytes.fromhex(digest))
    put_object(repository, name, INDEXES["version"](revealed(repository, name)))
    with pytest.raises(IndexDamaged):
        repository.index(digest)


def check_nothing_is_collected(repository: Repository) -> None:
    before = objects_of(repository)
    with pytest.raises(NewerFormat) as told:
        collect(repository)
    check_told(told.value)
    assert objects_of(repository) == before


@pytest.mark.parametrize("forgotten", [False, True])
def test_garbage_collection_stops_at_a_newer_index(repository: Repository, *, forgotten: bool) -> None:
    manifest, _ = seal_newer_index(repository, 1, INDEXES["encoding"], disk_of(b"a"))
    if forgotten:
        repository.forget(manifest.capture_id)
    check_nothing_is_collected(repository)


@pytest.mark.parametrize("form", ["a format", "a critical key"])
@pytest.mark.parametrize("moved", [False, True])
def test_what_is_set_aside_with_a_newer_document_is_left_to_that_version(
    repository: Repository, form: str, *, moved: bool
) -> None:
    """An older version took such a document for none: it took the claim over, and wrote over it."""
    manifest = seal(repository, 1, disk_of(b"a", b"b"))
    with repository.index(manifest.guests[0].disks[0].index) as index:
        digest = next(digest for _, digest in index.used_slots())
    name = repository.objects.protection.locate(digest)
    put_object(repository, name, revealed(repository, name)[:-1])
    document = AsideDocument(kind=Kind.CHUNK, digest=digest.hex(), found_at=now() - timedelta(days=9), reason="x")
    put_object(repository, damaged_document(name), forms(document.content())[form])
    if moved:
        repository.store.move(name, damaged_name(name))
    before = objects_of(repository)
    verify(repository, [manifest], set_aside=True)
    assert not set_aside(repository.objects, Kind.CHUNK, digest, "x")
    assert objects_of(repository) == before
    (aside,) = list_aside(repository.objects)
    assert (aside.document, aside.newer, aside.has_object) == (None, True, moved)


# Documents.


def forms(content: dict[str, Any]) -> dict[str, bytes]:
    """How a later version may write a document."""
    content = {key: value for key, value in content.items() if key != "checksum"}
    return {
        "a format": checked({**content, "format": 2}),
        "a format with a checksum of another sort": canonical({**content, "format": 2, "checksum": "blake3:1"}),
        "a critical key": checked({**content, "more": {"of": "it"}, "critical": ["more"]}),
    }


FORMS = ["a format", "a format with a checksum of another sort", "a critical key"]


@pytest.mark.parametrize("form", [*FORMS, "a word", "a critical key in a disk"])
def test_a_newer_manifest_is_told_and_hides_no_other(repository: Repository, form: str) -> None:
    other = seal(repository, 1, disk_of(b"a"))
    content = json.loads(seal(repository, 2, disk_of(b"b")).to_json())
    name = repository.objects.protection.manifest_name(capture_id(2))
    if form == "a word":
        data = checked({**content, "kind": "differential"})
    elif form == "a critical key in a disk":
        content["guests"][0]["disks"][0]["more"] = 1
        data = checked({**content, "critical": ["less", "more"]})
    else:
        data = forms(content)[form]
    put_object(repository, name, data)
    told: list[ManifestUnreadable] = []
    assert repository.manifests(on_damaged=told.append) == [other]
    (error,) = told
    assert isinstance(error, ManifestNewer)
    check_told(error)
    assert capture_id(2) in error.message or name in error.message
    found = check(repository)
    assert (found.manifests, len(found.newer)) == ((), 1)
    check_nothing_is_collected(repository)
    repository.forget(capture_id(2))
    check_nothing_is_collected(repository)


@pytest.mark.parametrize("change", [{"created_at": "yesterday"}, {"guests": "none"}, {"format": 0}, {"format": "2"}])
def test_a_manifest_with_a_wrong_value_is_damaged(repository: Repository, change: dict[str, Any]) -> None:
    content = json.loads(seal(repository, 1, disk_of(b"a")).to_json())
    put_object(repository, repository.objects.protection.manifest_name(capture_id(1)), checked({**content, **change}))
    with pytest.raises(ManifestDamaged):
        repository.manifests()


@pytest.mark.parametrize("form", FORMS)
def test_a_newer_session_stops_garbage_collection_and_is_not_to_be_deleted(repository: Repository, form: str) -> None:
    seal(repository, 1, disk_of(b"a"))
    session = repository.sessions.begin(capture_id(2), "freezeframe of tomorrow")
    name = session_name(capture_id(2))
    put_object(repository, name, forms(session.model_dump(mode="json"))[form])
    check_nothing_is_collected(repository)
    with pytest.raises(NewerFormat) as told:
        repository.sessions.check(capture_id(2))
    check_told(told.value)
    assert name in told.value.message


@pytest.mark.parametrize("form", [*FORMS, "a kdf", "a key of the kdf"])
def test_a_newer_key_slot_is_told_and_hides_no_other(form: str) -> None:
    store = MemoryStore()
    repository = locked(store)
    slots, keys = repository.encryption
    secret = Secret.passphrase("another one")
    name = f"keys/{slots.add(keys, secret, 'second')}"
    (name,) = (one for one in store._objects if one.startswith(name))
    content = {key: value for key, value in json.loads(store.get(name)).items() if key != "checksum"}
    if form == "a kdf":
        content["kdf"] = {"name": "argon2id", "m": 65536}
    elif form == "a critical key":
        content |= {"more": 1, "critical": ["more"]}
    elif form == "a key of the kdf":
        content["kdf"]["more"] = 1
    else:
        content["format"] = 2
    checksum = "blake3:1" if "another sort" in form else checksum_of({**content, "name": name})
    store.put_many([(name, canonical({**content, "checksum": checksum}))])
    opened = Repository.open_in(store, KEY)
    slots, keys = opened.encryption
    assert [info.label for info in slots.list(keys)[0]] == ["first"]
    assert slots.list(keys)[1] == []
    assert [name in sentence for sentence in slots.newer(keys)] == [True]
    found = check(opened)
    assert (found.key_slots, len(found.newer)) == ((), 1)
    with pytest.raises(NewerFormat) as told:
        Repository.open_in(store, Key(secret))
    check_told(told.value)
    assert name in told.value.message
    store.delete(name)
    with pytest.raises(WrongKey):
        Repository.open_in(store, Key(secret))
    assert Repository.open_in(store, Key(SECRET)).config.encrypted


@pytest.mark.parametrize("form", FORMS)
def test_a_newer_record_of_a_collection_stops_the_next(repository: Repository, form: str) -> None:
    """Its advice was to move things by hand, and to delete the record."""
    seal(repository, 1, disk_of(b"a"))
    records = Records(repository.objects)
    records.put(record := RunRecord(run_id=capture_id(5), begun_at=now()))
    name = run_name(record.run_id)
    put_object(repository, name, forms(record.model_dump(mode="json"))[form])
    check_nothing_is_collected(repository)


@pytest.mark.parametrize("also", [{}, {"more": 1}], ids=["alone", "beside an unknown key"])
def test_a_record_with_a_value_that_no_version_writes_is_damaged_and_not_newer(
    repository: Repository, also: dict[str, Any]
) -> None:
    record = RunRecord(run_id=capture_id(5), begun_at=now())
    name = run_name(record.run_id)
    content = {key: value for key, value in record.model_dump(mode="json").items() if key != "checksum"}
    put_object(repository, name, checked({**content, **also, "begun_at": ["no", "time"]}))
    assert read_notice(repository.objects, name, RunRecord) is None
    put_object(repository, name, checked({**content, "more": 1, "critical": ["more"]}))
    with pytest.raises(NewerFormat):
        read_notice(repository.objects, name, RunRecord)


def test_a_strange_file_among_the_forgotten_manifests_stops_no_collection(repository: Repository) -> None:
    """Whatever is in it: its name is none that a manifest can have."""
    manifest = seal(repository, 1, disk_of(b"a"))
    data = forms(json.loads(manifest.to_json()))["a format"]
    put_object(repository, forgotten_name("manifests/README"), data)
    collect(repository)


def test_an_index_that_cannot_be_opened_leaves_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[BytesIO] = []
    repository = locked()
    manifest = seal(repository, 1, disk_of(b"a"))
    for data in (b"x", SEALS["version"](repository.store.get(index_name(repository, manifest)))):

        def found(name: str, data: bytes = data) -> BytesIO:
            assert name == index_name(repository, manifest)
            opened.append(BytesIO(data))
            return opened[-1]

        monkeypatch.setattr(repository.objects.store, "open", found)
        with pytest.raises((IndexDamaged, NewerFormat)):
            repository.objects.open_index(bytes.fromhex(manifest.guests[0].disks[0].index))
    assert [one.closed for one in opened] == [True, True]


def index_name(repository: Repository, manifest: Manifest) -> str:
    return repository.objects.protection.index_name(bytes.fromhex(manifest.guests[0].disks[0].index))
