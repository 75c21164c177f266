"""Answers of object storage, and the errors that users see."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from io import BytesIO

import pytest

from freezeframe.repository import Repository, errors
from freezeframe.repository.layout import CONFIG, condemned_name, locate
from freezeframe.repository.store import Store, s3_fault, s3_parts
from freezeframe.repository.store.address import create_store, open_store
from ops.object_storage import BUCKET

from .s3 import KEY, SECRET, Answering, Asked, Reply

ADDRESS = f"s3://{BUCKET}/a"
NAME = locate(bytes(32))


WRITES: dict[str, Callable[[Store], None]] = {
    "put": lambda store: store.put(NAME, BytesIO(b"x")),
    "put_many": lambda store: store.put_many([(NAME, b"x")]),
    "put_if_absent": lambda store: store.put_if_absent(NAME, b"x"),
    "move": lambda store: store.move(NAME, condemned_name("01HZ0000000000000000000000", NAME)),
    "delete": lambda store: store.delete(NAME),
}


@pytest.fixture
def store(answering_server: Answering) -> Store:
    return open_store(ADDRESS)


REFUSALS = [
    (403, "AccessDenied", errors.RepositoryNotReadable, errors.RepositoryNotWritable, False),
    (403, "SignatureDoesNotMatch", errors.RepositoryNotReadable, errors.RepositoryNotWritable, False),
    (401, "Unauthorized", errors.RepositoryNotReadable, errors.RepositoryNotWritable, False),
    (400, "AuthorizationHeaderMalformed", errors.RepositoryNotReadable, errors.RepositoryNotWritable, False),
    (301, "PermanentRedirect", errors.RepositoryNotReadable, errors.RepositoryNotWritable, False),
    (404, "NoSuchBucket", errors.RepositoryNotFound, errors.RepositoryNotFound, False),
    (404, "NoSuchKey", errors.ObjectNotFound, errors.ObjectNotFound, False),
    (403, "QuotaExceeded", errors.RepositoryFull, errors.RepositoryFull, False),
    (507, "XMinioStorageFull", errors.RepositoryFull, errors.RepositoryFull, False),
    (501, "NotImplemented", errors.RepositoryUnsupported, errors.RepositoryUnsupported, False),
    (400, "RequestTimeout", errors.RepositoryNotReadable, errors.RepositoryNotWritable, True),
    (400, "SlowDown", errors.RepositoryNotReadable, errors.RepositoryNotWritable, True),
    (403, "RequestTimeTooSkewed", errors.RepositoryNotReadable, errors.RepositoryNotWritable, False),
    (409, "OperationAborted", errors.RepositoryNotReadable, errors.RepositoryNotWritable, True),
    (429, "TooManyRequests", errors.RepositoryNotReadable, errors.RepositoryNotWritable, True),
    (500, "InternalError", errors.RepositoryNotReadable, errors.RepositoryNotWritable, True),
    (503, "SlowDown", errors.RepositoryNotReadable, errors.RepositoryNotWritable, True),
]


@pytest.mark.parametrize(("status", "code", "of_reads", "of_writes", "transient"), REFUSALS)
def test_each_refusal_has_its_error_which_names_the_object(
    store: Store,
    answering_server: Answering,
    status: int,
    code: str,
    of_reads: type[errors.RepositoryError],
    of_writes: type[errors.RepositoryError],
    transient: bool,  # noqa: FBT001
) -> None:
    answering_server.answer = lambda _: Reply.error(status, code)
    with pytest.raises(of_reads, match=f"{ADDRESS}/{NAME}") as read:
        store.get(NAME)
    with pytest.raises(of_writes, match=f"{ADDRESS}/{NAME}") as written:
        store.put(NAME, BytesIO(b"x"))
    assert type(read.value) is of_reads
    assert type(written.value) is of_writes
    assert read.value.transient == written.value.transient == transient


def test_a_refusal_says_what_the_server_said_and_what_to_do(store: Store, answering_server: Answering) -> None:
    answering_server.answer = lambda _: Reply.error(403, "SignatureDoesNotMatch")
    with pytest.raises(errors.RepositoryNotReadable, match="403 SignatureDoesNotMatch") as error:
        store.get(NAME)
    assert "credentials" in error.value.hint


def test_no_secret_is_told(store: Store, answering_server: Answering) -> None:
    """The server's answer holds the credentials' name; not even a traceback repeats it."""
    answering_server.answer = lambda _: Reply.error(403, "InvalidAccessKeyId")
    with pytest.raises(errors.RepositoryNotReadable) as error:
        store.get(NAME)
    told = "".join(traceback.format_exception(error.value)) + repr(error.value) + repr(vars(error.value)) + repr(store)
    assert "AKIA" not in told
    assert SECRET not in told
    assert KEY not in told


@pytest.mark.parametrize("ask", ["get", "open"])
def test_an_answer_that_is_cut_short_is_no_object(store: Store, answering_server: Answering, ask: str) -> None:
    answering_server.answer = lambda _: Reply(200, "half", length=8)
    with pytest.raises(errors.RepositoryNotReadable) as error:
        getattr(store, ask)(NAME)
    assert error.value.transient


def test_a_listing_that_is_none_is_no_matter_of_credentials(store: Store, answering_server: Answering) -> None:
    """A proxy's page, or one that was cut: it may be over in a while."""
    answering_server.answer = lambda _: Reply(200, "<html><p>Be patient.")
    with pytest.raises(errors.RepositoryNotReadable, match="answer cannot be understood") as error:
        list(store.names("manifests"))
    assert error.value.transient
    assert "region" not in error.value.hint.lower()


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(
    answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the connection, nobody reads it
        monkeypatch.setenv("FREEZEFRAME_S3_TIMEOUT_S", "0.2")
        monkeypatch.setenv("FREEZEFRAME_S3_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(errors.RepositoryNotReadable, match="in time") as error:
            open_store(ADDRESS).get(NAME)
    assert error.value.transient


def test_what_is_transient_is_tried_again(answering_server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_S3_PATIENCE_S", "60")
    answering_server.answer = lambda _: (
        Reply(200, "bytes") if len(answering_server.asked) > 1 else Reply.error(503, "SlowDown")
    )
    assert open_store(ADDRESS).get(NAME) == b"bytes"


def test_the_library_tries_nothing_by_itself(store: Store, answering_server: Answering) -> None:
    """It would tell a create whose answer was lost as one that was refused."""
    answering_server.answer = lambda _: Reply.error(503, "SlowDown")
    with pytest.raises(errors.RepositoryNotWritable):
        store.put_if_absent(CONFIG, b"{}")
    assert [(one.method, one.create) for one in answering_server.asked] == [("PUT", True)]


def test_a_conflict_is_no_object_until_there_is_one(store: Store, answering_server: Answering) -> None:
    """409 says that somebody else is at it, not that somebody succeeded."""
    there = Reply.error(404, "NoSuchKey")
    answering_server.answer = lambda asked: (
        Reply.error(409, "ConditionalRequestConflict") if asked.method == "PUT" else there
    )
    with pytest.raises(errors.RepositoryNotWritable) as error:
        store.put_if_absent(CONFIG, b"{}")
    assert error.value.transient
    there = Reply(200)
    with pytest.raises(errors.AlreadyExists):
        store.put_if_absent(CONFIG, b"{}")


def test_after_an_error_the_rest_of_a_batch_is_not_begun(store: Store, answering_server: Answering) -> None:
    answering_server.answer = lambda _: Reply.error(403, "AccessDenied")
    with pytest.raises(errors.RepositoryNotWritable):
        store.put_many([(locate(bytes([n]) * 32), b"x") for n in range(256)] * 4)
    assert len(answering_server.asked) < 1024


def test_a_listing_that_breaks_on_its_second_page_is_told(store: Store, answering_server: Answering) -> None:
    def answer(asked: Asked) -> Reply:
        if "continuation-token" in asked.path:
            return Reply.error(503, "SlowDown")
        more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        whole = str(Reply.listing(asked, "a/manifests/01.json").body)
        return Reply(200, whole.replace("<IsTruncated>false</IsTruncated>", more))

    answering_server.answer = answer
    found = store.names("manifests")
    assert next(found) == "manifests/01.json"
    with pytest.raises(errors.RepositoryNotReadable, match="503"):
        next(found)


@pytest.mark.parametrize("lacks", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("ask", ["get", "open", "exists", "size", "modified"])
def test_a_page_with_status_200_is_no_object(store: Store, answering_server: Answering, ask: str, lacks: str) -> None:
    """As one of a proxy. Else a chunk that was never written would be there, or an object that is young be from 1970."""
    answering_server.answer = lambda _: Reply(200, "<html></html>", headers={lacks: ""})
    with pytest.raises(errors.RepositoryNotReadable, match="cannot be understood") as caught:
        getattr(store, ask)(NAME)
    assert caught.value.transient


PAGE_WITH_A_TAG = Reply(200, "<html></html>", headers={"Content-Type": "text/html"})


@pytest.mark.parametrize("ask", ["get", "open", "size", "modified", "exists"])
def test_a_page_is_no_object_whatever_else_it_says(store: Store, answering_server: Answering, ask: str) -> None:
    """A writer would count on a chunk that nobody has written."""
    answering_server.answer = lambda _: PAGE_WITH_A_TAG
    with pytest.raises(errors.RepositoryNotReadable, match="cannot be understood"):
        getattr(store, ask)(NAME)


def test_nor_is_one_that_comes_after_a_404(store: Store, answering_server: Answering) -> None:
    answering_server.answer = lambda asked: Reply(404) if asked.method == "HEAD" else PAGE_WITH_A_TAG
    with pytest.raises(errors.RepositoryNotReadable, match="cannot be understood"):
        store.exists(CONFIG)


@pytest.mark.parametrize("answer", [Reply(404, "<html></html>"), Reply(404)])
@pytest.mark.parametrize("ask", ["get", "open", "size", "modified", "exists", "names"])
def test_a_404_that_is_not_the_servers_is_no_absence(
    store: Store, answering_server: Answering, ask: str, answer: Reply
) -> None:
    """A proxy that has lost its server says it of everything. A session that is absent keeps nothing from deletion."""
    answering_server.answer = lambda _: answer
    with pytest.raises(errors.RepositoryNotReadable, match=r"answer cannot be understood \(404\)") as caught:
        list(getattr(store, ask)("manifests" if ask == "names" else CONFIG))
    assert caught.value.transient
    assert "FREEZEFRAME_S3_ENDPOINT" in caught.value.hint


def test_what_the_server_itself_has_not_is_absent(store: Store, answering_server: Answering) -> None:
    answering_server.answer = lambda _: Reply.error(404, "NoSuchKey")
    assert not store.exists(CONFIG)
    assert [one.method for one in answering_server.asked] == ["HEAD", "GET"]
    for ask in (store.get, store.open, store.size, store.modified):
        with pytest.raises(errors.ObjectNotFound):
            ask(CONFIG)


def test_a_writer_asks_once_for_each_chunk(store: Store, answering_server: Answering) -> None:
    """One that is there, and seems not to be, is only written anew."""
    answering_server.answer = lambda _: Reply(404)
    assert not store.exists(NAME)
    assert [one.method for one in answering_server.asked] == ["HEAD"]


@pytest.mark.parametrize("write", ["put", "put_many", "put_if_absent", "move", "delete"])
@pytest.mark.parametrize("answer", [Reply(404, "<html></html>"), Reply(404)])
def test_what_a_proxy_says_of_a_change_is_waited_for(
    store: Store, answering_server: Answering, write: str, answer: Reply
) -> None:
    answering_server.answer = lambda _: answer
    with pytest.raises(errors.RepositoryNotWritable, match="cannot be understood") as caught:
        WRITES[write](store)
    assert caught.value.transient


@pytest.mark.parametrize("write", ["put", "put_many", "put_if_absent"])
@pytest.mark.parametrize("body", ["", "<html></html>", "<Error><Code>InternalError</Code></Error>"])
def test_a_put_that_is_answered_without_a_tag_has_not_been_done(
    store: Store, answering_server: Answering, write: str, body: str
) -> None:
    answering_server.answer = lambda _: Reply(200, body, headers={"ETag": ""})
    with pytest.raises(errors.RepositoryNotWritable, match="cannot be understood") as caught:
        WRITES[write](store)
    assert caught.value.transient


@pytest.mark.parametrize(
    "answer", [Reply(200, "<html></html>"), Reply(206, "abc"), Reply(200, headers={"Last-Modified": "soon"})]
)
def test_a_part_that_is_answered_with_something_else_is_asked_for_again(
    store: Store, answering_server: Answering, answer: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "PART_BYTES", 2)
    answering_server.answer = lambda asked: Reply(200, "abc") if asked.range is None else answer
    with pytest.raises(errors.RepositoryNotReadable, match="cannot be understood") as caught:
        store.open(NAME)
    assert caught.value.transient


def test_what_is_no_object_of_the_folder_is_not_listed(store: Store, answering_server: Answering) -> None:
    """Some servers and browsers keep an empty object for a folder."""
    answering_server.answer = lambda asked: Reply.listing(asked, "a/manifests/", "a/manifests/01.json")
    assert list(store.names("manifests")) == ["manifests/01.json"]


def test_a_forked_process_is_refused_and_does_not_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_fault, "_process", os.getpid() + 1)
    with pytest.raises(errors.RepositoryError, match="forked"):
        store.get(NAME)
    with pytest.raises(errors.RepositoryError, match="forked"):
        store.put(NAME, BytesIO(b"x"))


class Simple:
    """A server that keeps names; `conditional` and `lists` say what it is good for."""

    def __init__(self, *, conditional: bool = True, lists: bool = True) -> None:
        self.conditional = conditional
        self.lists = lists
        self.keys: set[str] = set()

    def __call__(self, asked: Asked) -> Reply:
        key = asked.path.split("?")[0].removeprefix(f"/{BUCKET}/")
        if asked.method == "PUT":
            if asked.create and self.conditional and key in self.keys:
                return Reply.error(412, "PreconditionFailed")
            self.keys.add(key)
        elif asked.method == "DELETE":
            self.keys.discard(key)
            return Reply(204)
        elif asked.method == "HEAD":
            return Reply(200) if key in self.keys else Reply.error(404, "NoSuchKey")
        elif "list-type=2" in asked.path:
            return Reply.listing(asked, *self.keys if self.lists else ())
        return Reply(200)


def test_a_server_with_all_that_is_needed_is_taken(answering_server: Answering) -> None:
    answering_server.answer = kept = Simple()
    create_store(ADDRESS)
    assert kept.keys == set()


def test_a_server_that_ignores_conditions_is_refused(store: Store, answering_server: Answering) -> None:
    answering_server.answer = kept = Simple(conditional=False)
    with pytest.raises(errors.RepositoryUnsupported, match="If-None-Match"):
        Repository.init(ADDRESS)
    with pytest.raises(errors.RepositoryUnsupported, match="If-None-Match"):
        store.check_writable()
    assert kept.keys == set()


def test_a_server_whose_lists_are_late_is_refused(store: Store, answering_server: Answering) -> None:
    answering_server.answer = kept = Simple(lists=False)
    with pytest.raises(errors.RepositoryUnsupported, match="list"):
        store.check_writable()
    assert kept.keys == set()
