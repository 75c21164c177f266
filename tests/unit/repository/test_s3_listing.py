"""Listings of a bucket: a page that fails is asked for again, and what is no listing is never a shorter one."""

from __future__ import annotations

import re
import threading
import time
import traceback

import pytest

from freezeframe.repository.errors import RepositoryNotFound, RepositoryNotReadable
from freezeframe.repository.layout import (
    CONDEMNED,
    MANIFESTS,
    condemned_folder,
    condemned_name,
    folder_of,
    locate,
    run_name,
)
from freezeframe.repository.store.address import create_store, open_store
from freezeframe.repository.store.backend import Store
from freezeframe.repository.store.s3_listing import page_of

from .s3 import KEY, SECRET, Answering, Asked, Reply
from .s3_bucket import FakeBucket
from .samples import capture_id
from .times import Waiting

FOLDER = "chunks/00"
NAMES = sorted(locate(bytes(1) + number.to_bytes(2, "big") + bytes(29)) for number in range(4000))

#: What is said for `manifests/`, with one name.
WHOLE = (
    "<ListBucketResult><Name>bucket</Name><Prefix>a/manifests/</Prefix><IsTruncated>false</IsTruncated>"
    "<Contents><Key>a/manifests/x</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified><Size>1</Size></Contents>"
    "</ListBucketResult>"
)

AND_MORE = "<NextContinuationToken>t</NextContinuationToken><IsTruncated>true"


@pytest.fixture
def bucket(bucket: FakeBucket) -> FakeBucket:
    bucket.page = 10
    bucket.objects = {f"a/{name}": b"chunk" for name in NAMES}
    return bucket


@pytest.fixture
def store(bucket: FakeBucket, waiting: Waiting) -> Store:
    assert bucket.page == 10
    return open_store("s3://bucket/a", patience=waiting.patience(30))


def pages(server: Answering) -> int:
    return sum("list-type" in one.path for one in server.asked)


def test_a_listing_that_meets_one_refusal_at_page_399_goes_on_from_there(
    store: Store, bucket: FakeBucket, answering_server: Answering, waiting: Waiting
) -> None:
    """Its time counts from the last page that came: before this page 40 s are over, and patience is 30."""

    def trouble(_: Asked) -> Reply | None:
        waiting.now += 0.1
        return Reply.error(503, "SlowDown") if pages(answering_server) == 399 else None

    bucket.trouble = trouble
    assert sorted(store.names(FOLDER)) == NAMES
    assert (
        pages(answering_server) == 3 + 400 + 15 + 1
    )  # the beginning, the part that has them all, empty ones, the refusal


def test_every_page_may_be_refused_for_less_than_the_patience(
    store: Store, bucket: FakeBucket, waiting: Waiting
) -> None:
    bucket.objects = {f"a/{name}": b"chunk" for name in NAMES[:100]}
    since: dict[str, float] = {}

    def trouble(asked: Asked) -> Reply | None:
        page = asked.path.partition("X-Amz")[0]
        return Reply.error(500, "InternalError") if waiting.now - since.setdefault(page, waiting.now) < 5 else None

    bucket.trouble = trouble
    assert list(store.names(FOLDER)) == NAMES[:100]
    assert waiting.now > 30


def test_a_page_that_is_refused_for_longer_fails_the_listing(
    store: Store, bucket: FakeBucket, waiting: Waiting
) -> None:
    bucket.trouble = lambda asked: Reply.error(503, "SlowDown") if "continuation" in asked.path else None
    found = store.names(FOLDER)
    assert [next(found) for _ in range(10)] == NAMES[:10]
    with pytest.raises(RepositoryNotReadable, match=f"{FOLDER} failed: the server said 503"):
        list(found)
    assert 25 < waiting.now <= 30


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Reply.error(403, "AccessDenied"), "403 AccessDenied"),
        (Reply.error(404, "NoSuchBucket"), "There is no bucket"),
        (Reply(301, "", headers={"Location": "https://127.0.0.1:1/"}), "301"),
    ],
)
def test_a_refusal_that_no_time_mends_ends_it_at_once(
    store: Store, bucket: FakeBucket, waiting: Waiting, answer: Reply, said: str
) -> None:
    bucket.trouble = lambda _: answer
    with pytest.raises((RepositoryNotReadable, RepositoryNotFound), match=said) as caught:
        list(store.names(FOLDER))
    assert waiting.now == 0
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert not [secret for secret in (KEY, SECRET, "Signature") if secret in told]


NO_LISTING = {
    "a page of a proxy": "<html><body>Please log in.</body></html>",
    "with its kind": "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0//EN' 'x'><html xmlns='http://www.w3.org/1999/xhtml'/>",
    "text": "It works!",
    "nothing": "",
    "json": "{}",
    "an error with status 200": "<Error><Code>InternalError</Code><Message>We</Message></Error>",
    "another answer": "<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>",
    "the older listing of versions": WHOLE.replace("ListBucketResult", "ListVersionsResult"),
    "a listing that does not say whether it ends": WHOLE.replace("<IsTruncated>false</IsTruncated>", ""),
    "that says it in no way that is known": WHOLE.replace("false", "perhaps"),
    "more, but no token": WHOLE.replace("false", "true"),
    "another folder": WHOLE.replace("a/manifests/x", "a/indexes/x"),
    "a folder below": WHOLE.replace("a/manifests/x", "a/manifests/x/y"),
    "another listing": re.sub("<Contents>.*</Contents>", "", WHOLE).replace("a/manifests/", "a/indexes/"),
    "without its folder": WHOLE.replace("<Prefix>a/manifests/</Prefix>", ""),
    "in no encoding": f"<?xml version='1.0' encoding='freezing'?>{WHOLE}",
    "another prefix": WHOLE.replace("a/manifests/x", "b/manifests/x"),
    "a name without a time": re.sub("<LastModified>.*</LastModified>", "", WHOLE),
    "a time without a zone": WHOLE.replace("000Z", "000"),
    "no time": WHOLE.replace("2026", "yesterday"),
    "a name without a size": WHOLE.replace("<Size>1</Size>", ""),
    "no size": WHOLE.replace("<Size>1<", "<Size>one<"),
    "a size of less than nothing": WHOLE.replace("<Size>1<", "<Size>-1<"),
    "no name": WHOLE.replace("<Key>a/manifests/x</Key>", ""),
    "an empty name": WHOLE.replace("a/manifests/x", ""),
    "a folder without a name": WHOLE.replace("<Contents>", "<CommonPrefixes/><Contents>"),
    "cut": WHOLE[:-30],
}


@pytest.mark.parametrize("said", NO_LISTING.values(), ids=NO_LISTING)
def test_an_answer_that_is_no_listing_is_waited_for_and_then_told(
    store: Store, bucket: FakeBucket, waiting: Waiting, said: str
) -> None:
    """As an empty folder it would have garbage collection delete what every capture needs."""
    assert page_of(WHOLE.encode(), "a/manifests/", "a/").entries  # which each of them differs from
    bucket.trouble = lambda _: Reply(200, said)
    with pytest.raises(RepositoryNotReadable, match="manifests failed: the server's answer cannot be understood") as it:
        list(store.names(MANIFESTS))
    assert it.value.transient
    assert "FREEZEFRAME_S3_ENDPOINT" in it.value.hint
    assert 20 < waiting.now <= 30


@pytest.mark.parametrize("code", ["NoSuchKey", "NotFound"])
def test_a_folder_is_never_absent(store: Store, bucket: FakeBucket, waiting: Waiting, code: str) -> None:
    bucket.trouble = lambda _: Reply.error(404, code)
    with pytest.raises(RepositoryNotReadable, match=rf"cannot be understood \({code}\)"):
        list(store.names(MANIFESTS))
    assert waiting.now > 20


@pytest.mark.parametrize("said", NO_LISTING.values(), ids=NO_LISTING)
def test_nor_is_a_place_empty_for_it(bucket: FakeBucket, said: str) -> None:
    bucket.trouble = lambda _: Reply(200, said)
    with pytest.raises(RepositoryNotReadable):
        create_store("s3://bucket/a")


@pytest.mark.parametrize("once", [Reply(200, "<html></html>"), Reply(200, WHOLE[:50], length=len(WHOLE))])
def test_one_such_answer_in_the_middle_loses_nothing(
    store: Store, bucket: FakeBucket, answering_server: Answering, once: Reply
) -> None:
    bucket.trouble = lambda _: once if pages(answering_server) == 200 else None
    assert list(store.names(FOLDER)) == NAMES


def test_a_server_that_begins_again_and_again_is_told(store: Store, bucket: FakeBucket) -> None:
    """As one does behind a cache that does not look at the token."""
    again = WHOLE.replace("<IsTruncated>false<", f"{AND_MORE}<")
    bucket.trouble = lambda asked: Reply(
        200, again.replace(">t<", ">u<") if "continuation-token=t&" in asked.path else again
    )
    with pytest.raises(RepositoryNotReadable, match="cannot be understood"):
        list(store.names(MANIFESTS))


def test_the_order_of_names_does_not_matter(store: Store, answering_server: Answering) -> None:
    failed: list[Asked] = []

    def answer(asked: Asked) -> Reply:
        if "continuation-token" not in asked.path:
            first = Reply.listing(asked, *(f"a/{name}" for name in NAMES[9::-1]))
            return Reply(200, str(first.body).replace("<IsTruncated>false<", f"{AND_MORE}<"))
        if not failed:
            failed.append(asked)
            return Reply.error(503, "SlowDown")
        return Reply.listing(asked, *(f"a/{name}" for name in NAMES[:9:-1]))

    answering_server.answer = answer
    assert sorted(store.names(FOLDER)) == NAMES
    assert failed


def test_a_folder_with_folders_in_it_is_listed_without_what_is_below(
    store: Store, bucket: FakeBucket, answering_server: Answering
) -> None:
    """A run may have condemned millions of objects; its record is one."""
    run = capture_id(1)
    bucket.objects = {f"a/{condemned_name(run, name)}": b"" for name in NAMES} | {f"a/{run_name(run)}": b"run"}
    assert list(store.names(CONDEMNED)) == [run_name(run)]
    assert pages(answering_server) == 1
    assert list(store.names(folder_of(condemned_name(run, NAMES[0])))) == [condemned_name(run, name) for name in NAMES]


def test_a_short_look_at_a_long_listing_asks_for_few_pages(store: Store, answering_server: Answering) -> None:
    found = store.names(FOLDER)
    assert [next(found) for _ in range(25)] == NAMES[:25]
    assert pages(answering_server) == 3


SPREAD = sorted(locate(bytes(1) + (97 * number % 4096 * 16).to_bytes(2, "big") + bytes(29)) for number in range(4000))


def test_a_long_folder_is_listed_in_parts_side_by_side(
    bucket: FakeBucket, answering_server: Answering, store: Store
) -> None:
    """At 30 ms a page garbage collection of 100 TiB would take hours for its listings alone."""
    bucket.page = 50
    bucket.objects = {f"a/{name}": b"chunk" for name in SPREAD} | {"a/chunks/00/00": b"", "a/chunks/00/zzz": b""}
    at_once, most, lock = 0, 0, threading.Lock()

    def answer(asked: Asked) -> Reply:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002)
        reply = bucket(asked)
        with lock:
            at_once -= 1
        return reply

    answering_server.answer = answer
    found = list(store.names(FOLDER))
    assert sorted(name for name in found if name in set(SPREAD)) == SPREAD
    assert len(found) == len(set(found))  # none is told twice
    assert 3 < most <= 16


def test_a_part_that_fails_fails_the_listing(bucket: FakeBucket, store: Store, waiting: Waiting) -> None:
    bucket.page = 50
    bucket.objects = {f"a/{name}": b"chunk" for name in SPREAD}
    bucket.trouble = lambda asked: (
        Reply.error(503, "SlowDown") if "prefix=a%2Fchunks%2F00%2F00f" in asked.path else None
    )
    with pytest.raises(RepositoryNotReadable, match="503"):
        list(store.names(FOLDER))
    assert waiting.now > 20


def test_a_part_that_is_no_listing_is_no_shorter_one(bucket: FakeBucket, store: Store) -> None:
    bucket.page = 50
    bucket.objects = {f"a/{name}": b"chunk" for name in SPREAD}
    bucket.trouble = lambda asked: Reply(200, "<html></html>") if "prefix=a%2Fchunks%2F00%2F003" in asked.path else None
    with pytest.raises(RepositoryNotReadable, match="cannot be understood"):
        list(store.names(FOLDER))


def test_who_stops_in_the_middle_leaves_nobody_at_work(bucket: FakeBucket, store: Store) -> None:
    bucket.objects = {f"a/{name}": b"chunk" for name in SPREAD}
    found = store.names(FOLDER)
    for _ in range(35):
        next(found)
    found.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 30
    while [one for one in threading.enumerate() if one.name.startswith("list_")]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("folder", [MANIFESTS, "verified", condemned_folder(capture_id(1))])
def test_a_folder_of_other_names_is_listed_in_one(bucket: FakeBucket, answering_server: Answering, folder: str) -> None:
    bucket.objects = {f"a/{folder}/{number:064x}": b"" for number in range(100)}
    assert len(list(open_store("s3://bucket/a").names(folder))) == 100
    assert pages(answering_server) == 10


def test_a_listing_is_signed_for_a_bucket_that_is_a_host_name(
    answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Amazon's variable has it: then the endpoint is the bucket's, in this listing as in any other."""
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    answering_server.answer = FakeBucket(objects={"a/manifests/x": b""})
    assert list(open_store("s3://bucket/a").names(MANIFESTS)) == ["manifests/x"]
    assert [one.path.partition("?")[0] for one in answering_server.asked] == ["/"]
