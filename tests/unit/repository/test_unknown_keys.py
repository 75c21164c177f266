"""A document may carry keys that this version does not know: they are ignored and kept, unless they are critical (R4)."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.proof import Arrival, GuestProof, HostProof, Proof
from freezeframe.contract.words import HoldKind
from freezeframe.repository import Manifest, Tier
from freezeframe.repository.aside import AsideDocument, Kind
from freezeframe.repository.config import Config
from freezeframe.repository.crypto.kdf import KeyFileKdf, ScryptKdf
from freezeframe.repository.crypto.keys import Keys
from freezeframe.repository.crypto.slot import KeySlot, make_slot
from freezeframe.repository.document import (
    Document,
    DocumentDamagedError,
    DocumentNewerError,
    canonical,
    checked,
    checksum_of,
    parse,
    understood,
)
from freezeframe.repository.garbage.record import RunRecord
from freezeframe.repository.manifest import Imported, SkippedDisk
from freezeframe.repository.session import Session
from freezeframe.repository.suspects import Suspect
from freezeframe.repository.unknown_keys import Path, unknown_keys
from freezeframe.repository.verify.record import (
    FolderRecord,
    IndexesRecord,
    RestoredRecord,
    Verified,
)

from .locked import SECRET
from .samples import CHUNK, GUEST, capture_id, disk_capture, manifest_of

pytestmark = pytest.mark.case("R4")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def full_manifest() -> Manifest:
    """A manifest in which every part of its model is there."""
    layer = Layer(kind="file", place="/images/a", facts={"inode": "7"}, lies_on=("x",))
    identity = DiskIdentity(active=layer, data_file=layer, backing=(layer, layer))
    disk = disk_capture("ab" * 32, 2 * CHUNK).model_copy(update={"identity": identity})
    hold = GuestHold(kind=HoldKind.FREEZE, mountpoints=("/",))
    host = HostProof(host_id="host-a.example", boot_id="b", guests=(GuestProof(guest_uuid=GUEST, hold=hold),))
    arrival = Arrival(host_id="host-a.example", redis_us=5)
    proof = Proof(epoch=3, members=("host-a.example",), arrivals=(arrival,), release_us=6, hosts=(host,))
    made = manifest_of(1, disk)
    guest = made.guests[0].model_copy(update={"skipped": (SkippedDisk(target="vdb", reason="left out"),)})
    return made.model_copy(
        update={"proof": proof, "guests": (guest,), "imported": Imported(source="images", program="x")}
    )


SESSION = Session(
    session_id=capture_id(1), begun_at=NOW, expires_at=NOW + timedelta(days=7), host="a", pid=1, program="x"
)
DOCUMENTS: dict[str, Document] = {
    "manifest": full_manifest(),
    "session": SESSION,
    "run": RunRecord(run_id=capture_id(1), begun_at=NOW),
    "aside": AsideDocument(kind=Kind.CHUNK, digest="ab" * 32, found_at=NOW, reason="x"),
    "suspect": Suspect(
        capture_id=capture_id(1),
        index="ab" * 32,
        guest="db1",
        target="vda",
        found_by=capture_id(2),
        found_at=NOW,
        reason="x",
    ),
    "folder": FolderRecord(tiers={Tier.REHASHED: Verified(at=NOW, chunks=1, bytes=1)}),
    "indexes": IndexesRecord(at=NOW, captures=1, indexes=1),
    "restored": RestoredRecord(captures={capture_id(1): NOW}),
    "config": Config(id=UUID(int=1)),
}
documents = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)


def objects_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every JSON object of a document, and where it is."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from objects_in(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from objects_in(inner, (*path, number))


#: Objects whose keys are data: no key of theirs is unknown.
DATA = {"facts", "captures"}


def places(document: Document) -> list[Path]:
    found = [path for path, _ in objects_in(document.content()) if not path or path[-1] not in DATA]
    assert () in found
    return found


def with_key(content: dict[str, Any], path: Path, value: Any = None) -> dict[str, Any]:
    """Return a copy of a document with one more key in the object at `path`."""
    changed = copy.deepcopy(content)
    (found,) = [one for place, one in objects_in(changed) if place == path]
    found["more"] = {"of": ["it"]} if value is None else value
    return changed


@documents
def test_an_unknown_key_is_ignored_at_every_depth_and_kept(document: Document) -> None:
    for path in places(document):
        content = with_key(document.content(), path)
        found = parse(type(document), checked(content))
        assert found.model_dump() == document.model_dump()
        assert [one.path for one in unknown_keys(type(document), content)] == [(*path, "more")]
        assert found.content() == content
        assert found.to_json() == checked(content)


@documents
def test_the_same_key_is_newer_once_it_is_critical(document: Document) -> None:
    for path in places(document):
        content = with_key(document.content(), path)
        for name in ("more", "of"):
            with pytest.raises(DocumentNewerError, match="more"):
                parse(type(document), checked({**content, "critical": ["another", name]}))
        assert parse(type(document), checked({**content, "critical": ["another", "it"]})).critical == ("another", "it")


@documents
def test_a_key_that_is_known_may_be_critical(document: Document) -> None:
    content = {**document.content(), "critical": sorted(document.content())}
    assert parse(type(document), checked(content)).content() == content


@documents
def test_without_critical_keys_there_is_no_such_list(document: Document) -> None:
    assert "critical" not in document.content()


@documents
@pytest.mark.parametrize("critical", ["more", [["more"]], {"more": 1}, None])
def test_a_list_of_critical_keys_of_another_form_is_damage(document: Document, critical: Any) -> None:
    with pytest.raises(DocumentDamagedError):
        parse(type(document), checked({**document.content(), "critical": critical}))


@documents
def test_a_later_format_is_newer(document: Document) -> None:
    for later in (document.content()["format"] + 1, 99):
        with pytest.raises(DocumentNewerError, match=f"format {later}"):
            parse(type(document), canonical({**document.content(), "format": later, "checksum": "blake3:1"}))


def test_a_tier_of_which_this_version_does_not_know_is_a_key_and_not_a_word() -> None:
    content = DOCUMENTS["folder"].content()
    content["tiers"]["booted"] = {"at": "…"}
    found = parse(FolderRecord, checked(content))
    assert list(found.tiers) == [Tier.REHASHED]
    assert found.content() == content


def test_of_several_models_the_one_is_searched_that_is_meant() -> None:
    keys = Keys.of(bytes(32))
    slot = make_slot("keys/x.json", UUID(int=1), keys, SECRET, KeyFileKdf(), "label")
    content = slot.content()
    for kdf, unknown in [
        (KeyFileKdf().model_dump(), []),
        (ScryptKdf().model_dump(), []),
        ({**KeyFileKdf().model_dump(), "n": 2}, [("kdf", "n")]),
        ({"name": "argon2id", "m": 1}, []),
    ]:
        assert [one.path for one in unknown_keys(KeySlot, {**content, "kdf": kdf})] == unknown
    with pytest.raises(DocumentNewerError):
        understood(KeySlot, {**content, "kdf": {"name": "argon2id", "m": 1}})


@pytest.mark.parametrize("value", [None, 1, "text", [], [1], {"a": 1}])
def test_no_value_of_another_sort_is_searched(value: Any) -> None:
    for document in DOCUMENTS.values():
        for key in type(document).model_fields:
            unknown_keys(type(document), {**document.content(), key: value})


class Pair(BaseModel):
    both: tuple[Verified, ...] = ()


def test_what_an_unknown_key_has_within_is_unknown_with_it() -> None:
    assert [str(one) for one in unknown_keys(Pair, {"both": [{"at": 1}, {"x": {"y": 1}}], "z": 1})] == ["both.1.x", "z"]


def test_documents_that_mean_the_same_are_equal_in_whatever_order_their_keys_are() -> None:
    """The fuzzer found it: one that was rewritten was another than before."""
    known = json.loads(Config(id=UUID(int=5), chunk_bytes=4096).to_json())
    content = {**known, "zeta": 1, "alpha": [{"b": 2}], "Zeta": 3}
    content["checksum"] = checksum_of(content)
    one, other = (
        parse(Config, json.dumps({key: content[key] for key in sorted(content, reverse=backwards)}).encode())
        for backwards in (False, True)
    )
    assert one == other
    assert parse(Config, one.to_json()) == one
