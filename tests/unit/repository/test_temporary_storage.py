"""A full or missing directory for temporary files, met in the last moment: it is told as such, and nothing is stored."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.errors import TemporaryStorageFailed
from freezeframe.repository.layout import CONFIG
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.patience import Patience
from freezeframe.repository.store.retrying import Retrying
from freezeframe.temporary import temporary_directory

from .s3 import Answering, Reply
from .samples import CHUNK, disk_of


def full(**_: Any) -> Any:
    """A file whose buffer takes what is written, and for which the device has no room then. [full(4)]"""
    return Path("/dev/full").open("w+b")


def missing(**_: Any) -> Any:
    raise OSError(errno.ENOENT, "No such file or directory")


TROUBLES = pytest.mark.parametrize(
    ("trouble", "said"),
    [(full, "No space left on device"), (missing, "No such file or directory")],
    ids=["full", "missing"],
)


@TROUBLES
def test_an_index_that_finds_no_room_to_be_made_is_not_stored(
    trouble: Callable[..., Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    with Repository.init_in(store, chunk_bytes=CHUNK).disk_writer(CHUNK) as writer:
        writer.write_chunk(0, disk_of(b"a"))
        monkeypatch.setattr(tempfile, "TemporaryFile", trouble)
        with pytest.raises(TemporaryStorageFailed, match=f"{temporary_directory()} failed: {said}"):
            writer.finish()
    assert not [name for name in store._objects if name.startswith("indexes/")]


@TROUBLES
def test_an_object_that_finds_no_room_to_be_opened_is_told(
    trouble: Callable[..., Any], said: str, answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering_server.answer = lambda _: Reply(200, "an index")
    store = open_store("s3://bucket/a")
    with store.open(CONFIG) as source:
        assert source.read() == b"an index"

    def troubled(_: int, **wishes: Any) -> Any:
        return trouble(**wishes)

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", troubled)
    with pytest.raises(TemporaryStorageFailed, match=said):
        store.open(CONFIG)


class Asked(MemoryStore):
    """Knows what was settled and dropped from caches."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def settle(self, folders: Iterable[str]) -> None:
        self.asked += folders

    def drop_cached(self, name: str) -> None:
        self.asked.append(name)


def test_patience_passes_on_what_is_to_be_settled_and_dropped() -> None:
    store = Asked()
    Retrying(store, Patience(0)).settle(folder for folder in ("chunks/00", "manifests"))
    Retrying(store, Patience(0)).drop_cached(CONFIG)
    assert store.asked == ["chunks/00", "manifests", CONFIG]
