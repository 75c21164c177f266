"""A move in object storage, and what goes wrong between its copy and its delete: the object is never in neither place."""

from __future__ import annotations

import obstore
import pytest

from freezeframe.repository.errors import ObjectNotFound, RepositoryError, RepositoryNotWritable
from freezeframe.repository.layout import condemned_name, locate
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.s3 import S3Store
from freezeframe.repository.store.s3_fault import Answer

from .samples import capture_id

NAME = locate(bytes(32))
TO = condemned_name(capture_id(1), NAME)


@pytest.fixture
def store(s3_address: str) -> S3Store:
    made = open_store(s3_address)._store  # type: ignore[attr-defined]
    assert isinstance(made, S3Store)
    made.put_many([(NAME, b"chunk")])
    return made


def test_a_copy_that_was_answered_for_and_is_not_there_is_not_followed_by_a_delete(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may answer 200 before it has copied, and tell of an error in the body."""
    monkeypatch.setattr(obstore, "copy", lambda *_, **__: None)
    with pytest.raises(RepositoryNotWritable, match="left no copy") as caught:
        store.move(NAME, TO)
    assert caught.value.transient  # so it is tried again
    assert store.get(NAME) == b"chunk"


def test_a_move_that_may_not_be_made_any_more_copies_nothing(store: S3Store) -> None:
    def refused() -> None:
        raise RepositoryError("the run is too old")

    with pytest.raises(RepositoryError, match="too old"):
        store.move(NAME, TO, refused)
    assert store.exists(NAME)
    assert not store.exists(TO)


def test_what_is_moved_is_whole_at_its_end(store: S3Store) -> None:
    store.move(NAME, TO)
    assert store.get(TO) == b"chunk"
    with pytest.raises(ObjectNotFound):
        store.get(NAME)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("HTTP error: error sending request, kind: Connect", "the server cannot be reached"),
        ("HTTP error: operation timed out, kind: Timeout", "the server did not answer in time"),
        ("HTTP error: connection closed before message completed", "the exchange with the server failed"),
        ("Server returned non-2xx status code: 503 Slow Down: <Code>SlowDown</Code>", "the server said 503 SlowDown"),
        ("Server returned non-2xx status code: 500 : kind: Timeout", "the server said 500"),
    ],
)
def test_the_reason_is_what_is_known_and_nothing_else(text: str, reason: str) -> None:
    assert Answer.of(text).reason == reason
