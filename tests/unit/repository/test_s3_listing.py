"""Listings of a bucket: a page that fails is asked for again, and not what came before it."""

from __future__ import annotations

import pytest

from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.layout import CONDEMNED, condemned_name, folder_of, locate, run_name
from freezeframe.repository.store import s3_listing
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.backend import Store
from freezeframe.repository.store.patience import Patience

from .s3 import Answering, Asked, Reply
from .s3_bucket import FakeBucket
from .samples import capture_id

FOLDER = "chunks/00"
NAMES = sorted(locate(bytes(1) + number.to_bytes(2, "big") + bytes(29)) for number in range(4000))


class Time:
    """A clock that sleeping moves, and the server by so much for each request."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def bucket(answering_server: Answering) -> FakeBucket:
    made = FakeBucket(page=10, objects={f"a/{name}": b"chunk" for name in NAMES})
    answering_server.answer = made
    return made


@pytest.fixture
def store(bucket: FakeBucket, time: Time, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(s3_listing, "_NAMES_AT_ONCE", 5)
    return open_store("s3://bucket/a", patience=Patience(30, sleep=time.sleep, clock=lambda: time.now))


def pages(server: Answering) -> int:
    return sum("list-type" in one.path for one in server.asked)


def test_a_listing_that_meets_one_refusal_at_page_399_goes_on_from_there(
    store: Store, bucket: FakeBucket, answering_server: Answering, time: Time
) -> None:
    """Its time counts from the last page that came: before this page 40 s are over, and patience is 30."""

    def trouble(_: Asked) -> Reply | None:
        time.now += 0.1
        return Reply.error(503, "SlowDown") if pages(answering_server) == 399 else None

    bucket.trouble = trouble
    assert list(store.names(FOLDER)) == NAMES
    assert pages(answering_server) == 401


def test_every_page_may_be_refused_for_less_than_the_patience(store: Store, bucket: FakeBucket, time: Time) -> None:
    bucket.objects = {f"a/{name}": b"chunk" for name in NAMES[:100]}
    since: dict[str, float] = {}

    def trouble(asked: Asked) -> Reply | None:
        return Reply.error(500, "InternalError") if time.now - since.setdefault(asked.path, time.now) < 5 else None

    bucket.trouble = trouble
    assert list(store.names(FOLDER)) == NAMES[:100]
    assert time.now > 30


def test_a_page_that_is_refused_for_longer_fails_the_listing(store: Store, bucket: FakeBucket, time: Time) -> None:
    bucket.trouble = lambda asked: Reply.error(503, "SlowDown") if "continuation" in asked.path or time.now else None
    found = store.names(FOLDER)
    assert [next(found) for _ in range(10)] == NAMES[:10]
    with pytest.raises(RepositoryNotReadable, match=f"{FOLDER} failed: the server said 503"):
        list(found)
    assert 25 < time.now <= 30


def test_a_refusal_that_no_time_mends_ends_it_at_once(store: Store, bucket: FakeBucket, time: Time) -> None:
    bucket.trouble = lambda _: Reply.error(403, "AccessDenied")
    with pytest.raises(RepositoryNotReadable, match="403"):
        list(store.names(FOLDER))
    assert time.now == 0


def test_a_server_that_lists_in_no_order_is_not_asked_for_the_rest(
    store: Store, answering_server: Answering, time: Time
) -> None:
    """What follows the last name is not what is missing there."""
    answers = [
        Reply.listing(*(f"a/{name}" for name in [*NAMES[8:4:-1], NAMES[0]])),
        Reply.error(503, "SlowDown"),
    ]
    answers[0].body = str(answers[0].body).replace(
        "<ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
    )
    answering_server.answer = lambda _: answers.pop(0)
    with pytest.raises(RepositoryNotReadable, match="503"):
        list(store.names(FOLDER))
    assert time.now == 0


def test_a_folder_with_folders_in_it_is_listed_without_what_is_below(
    store: Store, bucket: FakeBucket, answering_server: Answering
) -> None:
    """A run may have condemned millions of objects; its record is one."""
    run = capture_id(1)
    asked_for: list[str] = []

    def trouble(asked: Asked) -> Reply | None:
        asked_for.append(asked.path)
        return Reply.listing(f"a/{run_name(run)}") if "delimiter" in asked.path else Reply.error(403, "AccessDenied")

    bucket.trouble = trouble
    assert list(store.names(CONDEMNED)) == [run_name(run)]
    assert len(asked_for) == 1
    with pytest.raises(RepositoryNotReadable):  # it has none in it, so it is listed in pages
        list(store.names(folder_of(condemned_name(run, NAMES[0]))))


def test_a_short_look_at_a_long_listing_asks_for_few_pages(store: Store, answering_server: Answering) -> None:
    found = store.names(FOLDER)
    assert [next(found) for _ in range(25)] == NAMES[:25]
    assert pages(answering_server) <= 4
