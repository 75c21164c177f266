"""Keys that the library refuses to parse: anybody may leave one in a bucket. What is ours beside it is listed, all of it."""

from __future__ import annotations

import traceback

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.check import check
from freezeframe.repository.errors import RepositoryExists, RepositoryNotReadable
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import (
    CHUNKS,
    CONDEMNED,
    CONFIG,
    INDEXES,
    MANIFESTS,
    TMP,
    condemned_folder,
    condemned_name,
    folders,
    locate,
    manifest_name,
    run_name,
)
from freezeframe.repository.store import s3_listing
from freezeframe.repository.store.address import create_store, open_store
from freezeframe.repository.store.backend import Store
from freezeframe.repository.store.patience import Patience

from .s3 import KEY, SECRET, Answering, Asked, Reply
from .s3_bucket import FakeBucket
from .samples import CHUNK, capture_id, disk_of, seal

FOLDER = "chunks/00"
NAMES = sorted(locate(bytes(1) + number.to_bytes(2, "big") + bytes(29)) for number in range(300))

#: Below a folder: an empty segment, `.` and `..`, and control characters, before, among and after names of ours.
FOREIGN = (
    "/x",
    "//",
    "./x",
    "../x",
    ".",
    "..",
    "00//",
    "00/../x",
    "0\tx",
    "a//",
    "zz//x",
    "z\x7f",
    "\x01",
    '"//" contained',
)

ULID = capture_id(7)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def bucket(answering_server: Answering) -> FakeBucket:
    made = FakeBucket(page=10)
    answering_server.answer = made
    return made


@pytest.fixture
def store(bucket: FakeBucket, time: Time, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(s3_listing, "_NAMES_AT_ONCE", 5)
    return open_store("s3://bucket/a", patience=Patience(30, sleep=time.sleep, clock=lambda: time.now))


def signed(asked: Asked) -> bool:
    """Return True for a request that the library has only signed."""
    return "X-Amz-Signature" in asked.path


@pytest.mark.parametrize("prefix", ["a/", ""])
@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize(
    ("folder", "ours"),
    [
        (MANIFESTS, manifest_name(ULID)),
        (TMP, f"tmp/{'a' * 32}"),
        (FOLDER, NAMES[0]),
        (CONDEMNED, run_name(ULID)),
        (condemned_folder(ULID), None),
        (condemned_folder(ULID) + "/chunks/00", condemned_name(ULID, NAMES[0])),
        (CHUNKS, None),
        (INDEXES, None),
        ("", CONFIG),
    ],
)
def test_a_folder_of_any_kind_is_listed_past_a_key_of_any_kind(
    bucket: FakeBucket, time: Time, folder: str, ours: str | None, key: str, prefix: str
) -> None:
    store = open_store(f"s3://bucket/{prefix}", patience=Patience(0, sleep=time.sleep, clock=lambda: time.now))
    under = f"{prefix}{folder}/" if folder else prefix
    bucket.put(f"{under}{key}", b"foreign")
    if ours is not None:
        bucket.put(f"{prefix}{ours}", b"ours!")
    found = [(one.name, one.size) for one in store.entries(folder)]
    assert found == ([] if ours is None else [(ours, 5)])


def test_the_rest_of_a_listing_is_whole_with_several_such_keys_in_many_pages(store: Store, bucket: FakeBucket) -> None:
    for name in NAMES:
        bucket.put(f"a/{name}", b"chunk")
    for name in NAMES[::37]:
        bucket.put(f"a/{name}//", b"")
        bucket.put(f"a/{name}\n", b"")
    bucket.put(f"a/{FOLDER}//", b"")
    found = list(store.entries(FOLDER))
    assert [one.name for one in found] == NAMES
    assert {one.size for one in found} == {5}
    assert {one.modified for one in found} == {bucket.modified[f"a/{name}"].replace(microsecond=0) for name in NAMES}


def test_what_the_library_has_listed_before_is_not_asked_for_again(
    store: Store, bucket: FakeBucket, answering_server: Answering
) -> None:
    for name in [*NAMES, f"{NAMES[200]}//"]:
        bucket.put(f"a/{name}", b"chunk")
    assert list(store.names(FOLDER)) == NAMES
    assert sum(signed(one) for one in answering_server.asked) == 11  # of 10 keys: from the 200th on, and one more key


@pytest.mark.parametrize("cut", [False, True])
def test_each_of_its_pages_is_waited_for(store: Store, bucket: FakeBucket, time: Time, cut: bool) -> None:  # noqa: FBT001
    for name in [*NAMES[:50], "chunks/00//x"]:
        bucket.put(f"a/{name}", b"chunk")
    refused: set[str] = set()

    def after(asked: Asked) -> Reply | None:
        which = asked.path.partition("X-Amz")[0]
        if not signed(asked) or which in refused:
            return None
        refused.add(which)
        whole = b"<ListBucketResult><Contents><Key>a/chunks/00/00"
        return Reply(200, whole, length=len(whole) + 100) if cut else Reply.error(503, "SlowDown")

    bucket.trouble_after = after
    assert list(store.names(FOLDER)) == NAMES[:50]
    assert len(refused) == 6
    assert time.now > 0


@pytest.mark.parametrize(
    "answer",
    [
        Reply.error(403, "AccessDenied"),
        Reply(200, "<html></html>"),
        Reply(200, "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"),
        Reply(200, "<ListBucketResult><Contents><Key>a/chunks/00/00</Key></Contents></ListBucketResult>"),
    ],
)
def test_a_server_that_does_not_list_so_is_told_with_the_key_that_is_to_go(
    store: Store, bucket: FakeBucket, time: Time, answer: Reply
) -> None:
    bucket.put("a/chunks/00/q\x1b//", b"")
    bucket.trouble = lambda asked: answer if signed(asked) else None
    with pytest.raises(RepositoryNotReadable, match=r'chunks/00 failed: the key "a/chunks/00/q\ufffd//"') as caught:
        list(store.names(FOLDER))
    assert "Delete the object with that key" in caught.value.hint
    assert not caught.value.transient
    assert time.now == 0
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert KEY not in told
    assert SECRET not in told
    assert "Signature" not in told


def test_a_server_that_lists_in_no_order_is_not_asked_for_the_rest(store: Store, answering_server: Answering) -> None:
    more = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    first = Reply.listing(*(f"a/{name}" for name in NAMES[9::-1]))
    first.body = str(first.body).replace("<ListBucketResult>", more)
    answering_server.answer = lambda asked: (
        first if "continuation" not in asked.path else Reply.listing("a/chunks/00//")
    )
    with pytest.raises(RepositoryNotReadable, match='the key "a/chunks/00//"'):
        list(store.names(FOLDER))


@pytest.mark.parametrize(("key", "named"), [("a//x", "/"), ("a/./x", "."), ("a/../x", ".."), ("a/q\t/x", "q\t")])
def test_a_place_with_such_a_key_is_not_empty(bucket: FakeBucket, key: str, named: str) -> None:
    bucket.put(key, b"")
    with pytest.raises(RepositoryExists) as caught:
        create_store("s3://bucket/a")
    assert f"is not empty: {named} is there" in str(caught.value)


def test_every_verb_ignores_such_keys_in_every_folder(bucket: FakeBucket) -> None:
    bucket.page = 1000
    repository = Repository.init("s3://bucket/a", chunk_bytes=CHUNK)
    first = seal(repository, 1, disk_of(b"one", b"two"))
    strange = [f"a/{folder}/{key}" for folder in folders(encrypted=False) for key in ("/x", "..", "0//")]
    for key in strange:
        bucket.put(key, b"")
    again = Repository.open("s3://bucket/a")
    assert again.manifests() == [first]
    seal(again, 2, disk_of(b"one", b"three"))
    assert len(again.manifests()) == 2
    assert verify(again, again.manifests(), Tier.REHASHED).sound
    assert check(again).sound
    collect(again)
    assert set(strange) <= set(bucket.objects)


def test_a_listing_is_signed_for_a_bucket_that_is_a_host_name(
    answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Amazon's variable has it: then the endpoint is the bucket's, in this listing as in any other."""
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    answering_server.answer = FakeBucket(objects={"a/manifests//x": b""})
    assert list(open_store("s3://bucket/a").names(MANIFESTS)) == []
    assert [(one.path.partition("?")[0], signed(one)) for one in answering_server.asked] == [("/", False), ("/", True)]
