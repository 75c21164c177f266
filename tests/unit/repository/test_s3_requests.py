"""Requests to object storage: whole objects, under names that are names, and nothing more after an error."""

from __future__ import annotations

import threading
from io import BytesIO

import pytest

from freezeframe.repository.errors import ObjectDamaged, RepositoryError, RepositoryNotWritable
from freezeframe.repository.layout import CONFIG, index_name, locate
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.patience import Patience
from freezeframe.repository.store.s3 import S3Store

from .s3 import Answering, Asked, Reply

NAME = index_name(bytes(32))


@pytest.fixture
def store(answering_server: Answering) -> S3Store:
    made = open_store("s3://bucket/a")._store  # type: ignore[attr-defined]
    assert isinstance(made, S3Store)
    return made


def test_what_is_no_name_is_refused_before_anything_is_sent(store: S3Store, answering_server: Answering) -> None:
    with pytest.raises(ValueError, match="is not the name of an object"):
        store.put_many([(CONFIG, b"{}"), ("chunks/../config", b"{}")])
    assert answering_server.asked == []


def test_after_an_error_of_many_the_rest_is_not_begun(store: S3Store, answering_server: Answering) -> None:
    """Each of them would wait for its own."""
    answering_server.answer = lambda _: Reply.error(403, "AccessDenied")
    names = [locate(bytes([number]) * 32) for number in range(200)]
    with pytest.raises(RepositoryNotWritable):
        store.put_many([(name, b"chunk") for name in names])
    assert not [one for one in threading.enumerate() if one.name.startswith("put")]
    assert len(answering_server.asked) < 100


def test_each_of_many_is_sent_again_by_itself(answering_server: Answering) -> None:
    """One that does not go through is no reason to send the others twice."""
    names = [locate(bytes([number]) * 32) for number in range(20)]
    seen: set[str] = set()

    def answer(asked: Asked) -> Reply:
        first = asked.path not in seen
        seen.add(asked.path)
        return Reply.error(503, "SlowDown") if first and names[7] in asked.path else Reply(200)

    answering_server.answer = answer
    open_store("s3://bucket/a", patience=Patience(30, sleep=lambda _: None)).put_many([(name, b"x") for name in names])
    assert len(answering_server.asked) == 21


def test_the_prefix_is_listed_too(store: S3Store, answering_server: Answering) -> None:
    answering_server.answer = lambda asked: Reply.listing(asked, "a/config", "a/notes")
    assert list(store.names("")) == ["config", "notes"]


def test_a_servers_own_marker_of_a_folder_is_no_object(store: S3Store, answering_server: Answering) -> None:
    name = locate(b"\xab" * 32)
    answering_server.answer = lambda asked: Reply.listing(asked, "a/chunks/ab/", f"a/{name}")
    assert list(store.names("chunks/ab")) == [name]


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "AccessDenied", "Check the credentials"),
        (401, "Unauthorized", "Check the credentials"),
        (400, "AuthorizationHeaderMalformed", "Check FREEZEFRAME_S3_REGION"),
        (503, "SlowDown", "the network and the server"),
        (409, "OperationAborted", "the network and the server"),
        (507, "XMinioStorageFull", "quota"),
    ],
)
def test_each_refusal_says_what_to_look_at(
    store: S3Store, answering_server: Answering, status: int, code: str, hint: str
) -> None:
    answering_server.answer = lambda _: Reply.error(status, code)
    with pytest.raises(RepositoryError) as caught:
        store.put(NAME, BytesIO(b"x"))
    assert hint in caught.value.hint


def test_an_object_that_is_longer_than_any_of_its_kind_is_not_read(store: S3Store, answering_server: Answering) -> None:
    answering_server.answer = lambda _: Reply(200, "{", length=(1 << 20) + 1)
    with pytest.raises(ObjectDamaged, match="has 1048577 bytes, and none like it may have so many"):
        store.get(CONFIG)
