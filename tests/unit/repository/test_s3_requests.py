"""What is sent to object storage: whole objects, under names that are names, and nothing more after an error."""

from __future__ import annotations

import threading
from io import BytesIO

import pytest

from freezeframe.repository.errors import ObjectDamaged, RepositoryError, RepositoryNotWritable
from freezeframe.repository.layout import CONFIG, index_name, locate
from freezeframe.repository.store import s3
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.s3 import S3Store

from .s3 import Answering, Reply

NAME = index_name(bytes(32))


@pytest.fixture
def store(answering_server: Answering) -> S3Store:
    made = open_store("s3://bucket/a")._store  # type: ignore[attr-defined]
    assert isinstance(made, S3Store)
    return made


@pytest.mark.parametrize("length", [0, 9, 10])
def test_an_object_goes_whole_up_to_what_one_request_may_have(
    store: S3Store, answering_server: Answering, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(s3, "_PUT_BYTES_MAX", 10)
    monkeypatch.setattr(store, "_put", lambda _, data: sent.append(bytes(data)))
    store.put(NAME, BytesIO(bytes(range(length))))
    assert sent == [bytes(range(length))]


def test_a_larger_object_is_refused_and_not_cut(
    store: S3Store, answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PUT_BYTES_MAX", 10)
    for length in (11, 12, 1000):
        with pytest.raises(RepositoryNotWritable, match=f"{NAME} would be larger than 5 GiB"):
            store.put(NAME, BytesIO(bytes(length)))
    assert answering_server.asked == []


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


def test_the_prefix_is_listed_too(store: S3Store, answering_server: Answering) -> None:
    answering_server.answer = lambda _: Reply.listing("a/config", "a/notes")
    assert list(store.names("")) == ["config", "notes"]


def test_a_servers_own_marker_of_a_folder_is_no_object(store: S3Store, answering_server: Answering) -> None:
    name = locate(b"\xab" * 32)
    answering_server.answer = lambda _: Reply.listing("a/chunks/ab/", f"a/{name}")
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
