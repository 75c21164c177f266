"""A directory store's calls of the operating system: made in earnest, and told by the place that they failed at."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.repository.errors import (
    ObjectNotFound,
    RepositoryError,
    RepositoryFull,
    RepositoryNotReadable,
    RepositoryNotWritable,
)
from freezeframe.repository.layout import CONFIG, condemned_name, locate
from freezeframe.repository.store import DirectoryStore
from freezeframe.repository.store.address import create_store
from freezeframe.repository.store.fault import writing
from freezeframe.repository.store.filesystem import Filesystem, StrPath

from .power import Watched
from .samples import capture_id

NAME = locate(bytes(32))
TO = condemned_name(capture_id(1), NAME)


@pytest.fixture
def root(memory_path: Path) -> Path:
    create_store(memory_path / "store")
    return memory_path / "store"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def test_a_file_and_a_folder_are_synced_by_the_kernel(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that tests of power cuts show stands on this."""
    synced: list[Path] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().relative_to(store._root))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    store.put_if_absent(CONFIG, b"{}")
    store.put_many([(NAME, b"chunk")])
    store.settle(["chunks/00"])
    in_tmp = Path("tmp")
    assert [one.parent if one.parent == in_tmp else one for one in synced] == [
        in_tmp,
        Path(),
        in_tmp,
        Path("chunks/00"),
    ]


def test_no_descriptor_is_kept_of_a_folder_that_was_synced(store: DirectoryStore) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    store.settle(["chunks/00", "chunks/01"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_the_kernel_writes_in_parts_is_whole(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a signal comes, or space is just enough. [pwrite(2): the number of bytes written may be less]"""
    pwrite, data = os.pwrite, bytes(range(256)) * 20
    monkeypatch.setattr(os, "pwrite", lambda fd, rest, offset: pwrite(fd, rest[:1000], offset))
    store.put_many([(NAME, data)])
    store.put(CONFIG, BytesIO(data))
    assert (root / NAME).read_bytes() == (root / CONFIG).read_bytes() == data


def test_a_files_descriptor_is_given_back_to_the_kernel(root: Path) -> None:
    files = Filesystem()
    fd = files.create(root / "new")
    files.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_is_read_wrongly_is_dropped_from_the_page_cache(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[tuple[Path, tuple[int, ...]]] = []

    def advise(fd: int, *rest: int) -> None:
        dropped.append((Path(f"/proc/self/fd/{fd}").readlink(), rest))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    store.put_many([(NAME, b"chunk")])
    store.drop_cached(NAME)
    store.drop_cached(locate(bytes(31) + b"x"))  # which is not there
    assert dropped == [(root / NAME, (0, 0, os.POSIX_FADV_DONTNEED))]


# moves


class Unmade(Watched):
    """Another takes a run's folder away again, so many times, as soon as it is made."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def make_folder(self, path: StrPath) -> None:
        super().make_folder(path)
        if str(path).endswith("/chunks/00") and self.times:
            self.times -= 1
            Path(path).rmdir()

    def fsync_folder(self, path: StrPath) -> None:
        if Path(path).exists():
            super().fsync_folder(path)


@pytest.mark.parametrize(("times", "asked"), [(0, 2), (1, 3), (4, 6)])
def test_a_move_is_tried_again_where_its_folder_is_taken_away_and_is_allowed_each_time(
    root: Path, times: int, asked: int
) -> None:
    """A run that has stood still meanwhile may move nothing any more."""
    store = DirectoryStore(root, Unmade(times))
    store.put_many([(NAME, b"chunk")])
    allowed: list[bool] = []
    store.move(NAME, TO, lambda: allowed.append(True))
    assert len(allowed) == asked
    assert store.get(TO) == b"chunk"


def test_a_move_that_finds_no_folder_in_the_end_says_so_and_leaves_the_object(root: Path) -> None:
    store = DirectoryStore(root, Unmade(99))
    store.put_many([(NAME, b"chunk")])
    with pytest.raises(ObjectNotFound):
        store.move(NAME, TO)
    assert store.get(NAME) == b"chunk"


@pytest.mark.parametrize("nth", range(3))
def test_a_move_that_is_not_allowed_any_more_is_not_made(root: Path, nth: int) -> None:
    store = DirectoryStore(root, Unmade(1))
    store.put_many([(NAME, b"chunk")])
    asked: list[bool] = []

    def refused_later() -> None:
        if len(asked) == nth:
            raise RepositoryError("the run is too old")
        asked.append(True)

    with pytest.raises(RepositoryError, match="too old"):
        store.move(NAME, TO, refused_later)
    assert store.get(NAME) == b"chunk"


def test_a_move_of_what_is_not_there_makes_no_folder(root: Path) -> None:
    watched = Watched()
    with pytest.raises(ObjectNotFound):
        DirectoryStore(root, watched).move(NAME, TO)
    assert "make_folder" not in [step.call for step in watched.log]


# errors


READS: dict[str, Callable[[DirectoryStore], object]] = {
    "get": lambda store: store.get(NAME),
    "open": lambda store: store.open(NAME),
    "size": lambda store: store.size(NAME),
    "exists": lambda store: store.exists(NAME),
    "names": lambda store: list(store.names("chunks/00")),
    "entries": lambda store: list(store.entries("chunks/00")),
}


@pytest.mark.parametrize("way", READS)
def test_what_cannot_be_read_is_told_and_never_taken_for_missing(store: DirectoryStore, root: Path, way: str) -> None:
    (root / "chunks/00").rmdir()
    (root / "chunks/00").write_text("no folder")
    with pytest.raises(RepositoryNotReadable, match=f"Reading {root}/chunks/00.* failed: Not a directory"):
        READS[way](store)


def test_the_root_is_listed_too(store: DirectoryStore) -> None:
    store.put_if_absent(CONFIG, b"{}")
    assert list(store.names("")) == [CONFIG]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, RepositoryFull),
        (errno.EDQUOT, RepositoryFull),
        (errno.EFBIG, RepositoryFull),
        (errno.EROFS, RepositoryNotWritable),
        (errno.EACCES, RepositoryNotWritable),
    ],
)
def test_an_error_names_the_file_if_it_is_known_and_else_the_repository(
    tmp_path: Path, number: int, kind: type[RepositoryError]
) -> None:
    said = os.strerror(number)
    with pytest.raises(kind, match=f"{tmp_path}.*{said}"), writing(tmp_path):
        raise OSError(number, said)
    if kind is RepositoryNotWritable:
        with pytest.raises(kind, match=f"Writing to /a/file failed: {said}"), writing(tmp_path):
            raise OSError(number, said, "/a/file")
        with pytest.raises(kind, match=f"Writing to {tmp_path} failed: in its own words"), writing(tmp_path):
            raise OSError("in its own words")
