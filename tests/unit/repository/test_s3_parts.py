"""Objects of any size, to and from object storage: in parts, each with its own tries, in little memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from freezeframe.repository.crypto import stream
from freezeframe.repository.crypto.cipher import ObjectCipher
from freezeframe.repository.errors import (
    RepositoryError,
    RepositoryNotReadable,
    RepositoryNotWritable,
    is_store_trouble,
)
from freezeframe.repository.layout import CONFIG, index_name
from freezeframe.repository.store import s3_parts
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.backend import Store

from .s3 import Answering, Asked, Reply
from .s3_bucket import FakeBucket
from .times import Waiting

NAME = index_name(bytes(32))
KEY = f"a/{NAME}"
PART = 5 << 20  # the least that the protocol knows
MIB = 1 << 20


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_parts, "PART_BYTES", PART)


SMALL_PARTS = pytest.mark.usefixtures("small_parts")


@pytest.fixture
def store(bucket: FakeBucket, waiting: Waiting) -> Store:
    return open_store("s3://bucket/a", patience=waiting.patience(30))


class Zeros(RawIOBase):
    """Bytes that take no memory. Reading them may fail near the end."""

    def __init__(self, length: int, fails_at: int | None = None) -> None:
        self._length = length
        self._at = 0
        self._fails_at = fails_at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        if self._fails_at is not None and self._length - self._at < self._fails_at:
            raise RepositoryError("the source broke")
        piece = bytes(min(size, self._length - self._at))
        self._at += len(piece)
        return piece


def zeros(length: int, fails_at: int | None = None) -> BinaryIO:
    return cast("BinaryIO", Zeros(length, fails_at))


def parts_sent(server: Answering) -> list[int]:
    return [len(one.body) for one in server.asked if "partNumber" in one.path]


@SMALL_PARTS
@pytest.mark.parametrize("length", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7])
def test_an_object_goes_whole_and_comes_back_whatever_its_length(
    store: Store, bucket: FakeBucket, answering_server: Answering, length: int
) -> None:
    data = os.urandom(length)
    store.put(NAME, BytesIO(data))
    assert bucket.objects[KEY] == data
    assert bucket.uploads == {}
    assert max(parts_sent(answering_server), default=0) <= PART
    with store.open(NAME) as source:
        assert source.read() == data


@SMALL_PARTS
def test_a_part_that_does_not_go_through_is_sent_again_and_no_other(
    bucket: FakeBucket, answering_server: Answering, waiting: Waiting
) -> None:
    """By the library, whose pauses are real: so a few, short ones."""
    refusals = [2, 2, 3]

    def trouble(asked: Asked) -> Reply | None:
        for number in refusals:
            if f"partNumber={number}&" in asked.path:
                refusals.remove(number)
                return Reply.error(503, "SlowDown")
        return None

    bucket.trouble = trouble
    open_store("s3://bucket/a", patience=waiting.patience(30)).put(NAME, zeros(4 * PART))
    assert bucket.objects[KEY] == bytes(4 * PART)
    assert len(parts_sent(answering_server)) == 4 + 3


STEPS = {"begin": ("POST", "uploads="), "part": ("PUT", "partNumber=2&"), "end": ("POST", "uploadId=")}


def at(step: str, asked: Asked) -> bool:
    method, said = STEPS[step]
    return asked.method == method and said in asked.path


def once(step: str, answer: Reply) -> Callable[[Asked], Reply | None]:
    """Return what answers the first request of that step so."""
    answers = [answer]
    return lambda asked: answers.pop() if answers and at(step, asked) else None


#: Status and headers go before a long work is done: so an error may be in the body.
LATE_ERROR = Reply(200, Reply.error(500, "InternalError").body)

CUT = Reply(200, "<?xml version='1.0'?><Init", length=200)

#: At the end of an upload: it is not known any more, or one of its parts is not.
LOST = [Reply.error(404, "NoSuchUpload"), Reply.error(400, "InvalidPart")]


@SMALL_PARTS
@pytest.mark.parametrize("step", STEPS)
def test_an_upload_whose_answers_are_lost_is_made(
    bucket: FakeBucket, store: Store, answering_server: Answering, step: str
) -> None:
    """The library sends the request again. The last one too, and there is no such upload then."""
    bucket.trouble_after = once(step, Reply.error(500, "InternalError"))
    store.put(NAME, zeros(2 * PART))
    assert sum(at(step, one) for one in answering_server.asked) == 2
    assert bucket.objects[KEY] == bytes(2 * PART)


@SMALL_PARTS
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "answer",
    [
        Reply.error(400, "ExpiredToken"),
        Reply.error(403, "ExpiredToken"),
        Reply.error(409, "OperationAborted"),
        Reply.error(400, "RequestTimeout"),
        LATE_ERROR,
        CUT,
    ],
)
@pytest.mark.parametrize("carried_out", [True, False])
def test_an_upload_waits_out_what_the_library_does_not(
    bucket: FakeBucket,
    store: Store,
    waiting: Waiting,
    step: str,
    answer: Reply,
    carried_out: bool,  # noqa: FBT001
) -> None:
    """Also where the request was carried out, and its answer lost."""
    if answer.status == 200 and step == "part":
        carried_out = True  # a part whose answer begins with 200 is there
    data = os.urandom(2 * PART + 7)
    said: list[Asked] = []

    def trouble(asked: Asked) -> Reply | None:
        if not at(step, asked) or len(said) == 3:
            return None
        said.append(asked)
        return answer

    if carried_out:
        bucket.trouble_after = trouble
    else:
        bucket.trouble = trouble
    source = BytesIO(b"before" + data)
    source.seek(6)
    store.put(NAME, source)
    assert said
    assert bucket.objects[KEY] == data


@SMALL_PARTS
def test_an_object_that_was_completed_is_not_sent_again(
    bucket: FakeBucket, store: Store, answering_server: Answering
) -> None:
    """The answer was cut, so the library gives up; the older object of that name and length is not taken for it."""
    bucket.put(KEY, bytes(3 * PART))
    bucket.trouble_after = once("end", CUT)
    data = os.urandom(3 * PART)
    store.put(NAME, BytesIO(data))
    assert bucket.objects[KEY] == data
    assert len(parts_sent(answering_server)) == 3


@SMALL_PARTS
def test_an_older_object_of_that_length_is_not_taken_for_the_new_one(bucket: FakeBucket, store: Store) -> None:
    bucket.put(KEY, bytes(2 * PART))
    bucket.trouble = once("end", CUT)
    data = os.urandom(2 * PART)
    store.put(NAME, BytesIO(data))
    assert bucket.objects[KEY] == data


@SMALL_PARTS
@pytest.mark.parametrize("step", STEPS)
def test_an_upload_that_is_refused_for_longer_than_the_patience_is_told(
    bucket: FakeBucket, store: Store, waiting: Waiting, step: str
) -> None:
    """Bytes that the library reads ahead are no progress: no part has gone through."""
    bucket.trouble = lambda asked: (
        Reply.error(400, "ExpiredToken") if at(step, asked) or (step == "part" and "partNumber" in asked.path) else None
    )
    with pytest.raises(RepositoryNotWritable, match="400 ExpiredToken") as caught:
        store.put(NAME, zeros((12 if step == "part" else 2) * PART))
    assert caught.value.transient
    assert 20 < waiting.now <= 30
    assert KEY not in bucket.objects


@SMALL_PARTS
def test_patience_counts_from_the_last_part_but_not_for_ever(
    bucket: FakeBucket, store: Store, waiting: Waiting, answering_server: Answering
) -> None:
    """Each part takes 4 s, all of them 48, and patience is 30. Five uploads that break off late are the most."""

    def trouble(asked: Asked) -> Reply | None:
        if asked.method == "PUT":
            waiting.now += 4
        return Reply.error(409, "OperationAborted") if at("end", asked) else None

    bucket.trouble = trouble
    with pytest.raises(RepositoryNotWritable, match="409"):
        store.put(NAME, zeros(12 * PART))
    assert sum("uploads" in one.path for one in answering_server.asked) == s3_parts._UPLOADS_MOST


@SMALL_PARTS
@pytest.mark.parametrize("lost", LOST)
def test_parts_that_the_server_has_lost_are_sent_again(bucket: FakeBucket, store: Store, lost: Reply) -> None:
    bucket.trouble = once("end", lost)
    store.put(NAME, zeros(2 * PART))
    assert bucket.objects[KEY] == bytes(2 * PART)


@SMALL_PARTS
@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("older", [None, b"an older one"])
def test_parts_that_the_server_loses_each_time_are_no_object(
    bucket: FakeBucket, store: Store, waiting: Waiting, older: bytes | None, lost: Reply
) -> None:
    if older is not None:
        bucket.put(KEY, older)
    bucket.trouble = lambda asked: lost if at("end", asked) else None
    with pytest.raises(RepositoryNotWritable, match=f"{NAME} failed: the server has lost its parts") as caught:
        store.put(NAME, zeros(2 * PART))
    assert is_store_trouble(caught.value)
    assert caught.value.transient
    assert bucket.objects.get(KEY) == older
    assert waiting.now > 20


@SMALL_PARTS
def test_an_encrypted_index_is_sealed_anew_when_its_upload_is_begun_again(bucket: FakeBucket, store: Store) -> None:
    cipher, data = ObjectCipher(bytes(32)), os.urandom(2 * PART)
    bucket.trouble = once("end", CUT)
    store.put(NAME, stream.sealing(cipher, NAME, BytesIO(data)))
    with stream.unsealing(cipher, NAME, store.open(NAME)) as source:
        assert source.read() == data


@SMALL_PARTS
@pytest.mark.parametrize("refused", [True, False])
def test_an_upload_that_fails_leaves_nothing(bucket: FakeBucket, store: Store, refused: bool) -> None:  # noqa: FBT001
    if refused:
        bucket.trouble = lambda asked: Reply.error(403, "AccessDenied") if "partNumber=2&" in asked.path else None
    with pytest.raises(RepositoryError, match="403 AccessDenied" if refused else "the source broke"):
        store.put(NAME, zeros(4 * PART, None if refused else PART))
    assert (bucket.objects, bucket.uploads) == ({}, {})


@SMALL_PARTS
def test_each_part_that_is_read_has_its_own_patience(bucket: FakeBucket, store: Store, waiting: Waiting) -> None:
    """Together they take longer than any one may."""
    data = os.urandom(6 * PART)
    bucket.put(KEY, data)
    since: dict[str, float] = {}

    def trouble(asked: Asked) -> Reply | None:
        began = since.setdefault(str(asked.range), waiting.now)
        return Reply.error(503, "SlowDown") if waiting.now - began < 20 else None

    bucket.trouble = trouble
    with store.open(NAME) as source:
        assert source.read() == data
    assert waiting.now > 100


@SMALL_PARTS
def test_an_object_that_is_replaced_while_it_is_read_is_read_anew(bucket: FakeBucket, store: Store) -> None:
    old, new = bytes(3 * PART), os.urandom(3 * PART + 1)
    bucket.put(KEY, old)

    def trouble(asked: Asked) -> None:
        if asked.range == f"bytes={PART}-{2 * PART - 1}" and bucket.objects[KEY] == old:
            bucket.put(KEY, new)

    bucket.trouble = trouble
    with store.open(NAME) as source:
        assert source.read() == new


@SMALL_PARTS
def test_an_object_that_is_replaced_again_and_again_is_told(bucket: FakeBucket, store: Store) -> None:
    bucket.put(KEY, bytes(3 * PART))
    bucket.trouble = lambda asked: bucket.put(KEY, os.urandom(3 * PART)) if asked.range else None
    with pytest.raises(RepositoryNotReadable, match="replaced while it was read, 5 times"):
        store.open(NAME)


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def swallowing(answering_server: Answering) -> Answering:
    """A server that keeps nothing of what it is sent, so that memory is what the store takes."""
    bucket = FakeBucket()

    def answer(asked: Asked) -> Reply:
        asked.body = b""
        return bucket(asked)

    answering_server.answer = answer
    return answering_server


@pytest.mark.parametrize(("length", "most"), [(3 << 10, 4 * MIB), (256 * MIB, 100 * MIB)])
def test_an_object_takes_little_memory_on_its_way_up(
    swallowing: Answering, tmp_path: Path, length: int, most: int
) -> None:
    """The server, which is in this process, takes a part for each of those that are on their way."""
    place = tmp_path / "index"
    with place.open("wb") as file:
        file.truncate(length)
    store = open_store("s3://bucket/a")
    with place.open("rb") as file:
        assert peak_of(lambda: store.put(NAME, file)) < most
    assert sum(len(one.body) for one in swallowing.asked) == 0


@pytest.mark.parametrize(("length", "most"), [(3 << 10, 4 * MIB), (256 * MIB, 60 * MIB)])
def test_an_object_takes_little_memory_on_its_way_down(answering_server: Answering, length: int, most: int) -> None:
    """The library's own memory, which Python does not see, is a part or so: it hands out what it has got."""

    def answer(asked: Asked) -> Reply:
        if asked.range is None:
            return Reply(200, bytes(min(length, MIB)), length=length)
        first, last = (int(one) for one in asked.range.removeprefix("bytes=").split("-"))
        return Reply(206, bytes(last + 1 - first), headers={"Content-Range": f"bytes {first}-{last}/{length}"})

    answering_server.answer = answer
    opened: list[BinaryIO] = []
    assert peak_of(lambda: opened.append(open_store("s3://bucket/a").open(NAME))) < most
    with opened[0] as source:
        assert source.seek(0, os.SEEK_END) == length


def test_a_small_object_of_any_kind_is_one_request(store: Store, answering_server: Answering) -> None:
    store.put(CONFIG, BytesIO(b"{}"))
    with store.open(CONFIG) as source:
        assert source.read() == b"{}"
    assert [one.method for one in answering_server.asked] == ["PUT", "GET"]
