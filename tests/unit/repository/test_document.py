"""Documents that are none, or not as they were written: nothing of them is believed, and no reader fails at them."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.aside import list_aside
from freezeframe.repository.document import DocumentDamagedError, checked, is_whole, parse
from freezeframe.repository.errors import SessionDamaged
from freezeframe.repository.garbage.record import RunRecord
from freezeframe.repository.layout import damaged_name, locate, session_name, verified_name
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.verify.record import read_folder

from .samples import CHUNK, capture_id

STRANGE = {
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"7",
    "a word": b'"checksum"',
    "nothing": b"null",
    "no checksum": b"{}",
    "half a character": b'{"checksum": "0", "text": "\\ud800"}',
    "no text": b"\xff\xfe",
    "deep": b"[" * 100_000,
}
strange = pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE.keys())


def test_a_document_has_one_form() -> None:
    assert checked({"b": 1, "a": "ü"}).startswith('{"a":"ü","b":1,"checksum":"'.encode())


@strange
def test_what_is_no_document_is_damaged(data: bytes) -> None:
    with pytest.raises(DocumentDamagedError):
        parse(RunRecord, data)


@pytest.mark.parametrize("depth", [200, 900])
def test_a_document_that_is_nested_too_deeply_is_damaged_or_read(depth: int) -> None:
    deep: object = 1
    for _ in range(depth):
        deep = [deep]
    record = RunRecord(run_id=capture_id(1), begun_at=datetime.now(UTC))
    with suppress(DocumentDamagedError):
        assert parse(RunRecord, checked({**record.content(), "more": deep})).run_id == record.run_id


def test_what_has_no_canonical_form_is_not_whole() -> None:
    """JSON can name half a character, which no UTF-8 has: nobody has written that here."""
    assert not is_whole(json.loads(STRANGE["half a character"]))


@strange
def test_no_reader_fails_at_one(data: bytes) -> None:
    repository = Repository.init_in(MemoryStore(), chunk_bytes=CHUNK)
    aside = damaged_name(locate(bytes(32)))
    repository.store.put_many(
        [(name, data) for name in (session_name(capture_id(1)), verified_name("ab"), f"{aside}.json")]
    )
    with pytest.raises(SessionDamaged, match="has other bytes than were written"):
        repository.sessions.load(capture_id(1))
    assert read_folder(repository.objects, "ab") is None
    assert [one.document for one in list_aside(repository.objects)] == [None]
