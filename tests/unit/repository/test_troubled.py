"""Stores in trouble: full, read-only, with a broken disk. An error names the repository, and nothing is half there."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from typing_extensions import Buffer

from freezeframe.repository import Manifest, Repository, Tier, verify
from freezeframe.repository.chunk import unseal
from freezeframe.repository.errors import (
    IndexDamaged,
    RepositoryDamaged,
    RepositoryError,
    RepositoryFull,
    RepositoryNotReadable,
    RepositoryNotWritable,
)
from freezeframe.repository.store import DirectoryStore, MemoryStore
from freezeframe.repository.store.filesystem import Filesystem, StrPath
from freezeframe.repository.store.patience import Patience
from freezeframe.repository.store.retrying import Retrying

from .killed import DISKS, FIRST, capture
from .locked import PROTECTIONS, protected
from .power import Failing, Step, Troubled, Watched
from .samples import CHUNK, capture_id, disk_of, random_disk, read_disk, seal, store_disk, write

ENDS: dict[int, type[RepositoryError]] = {
    errno.ENOSPC: RepositoryFull,
    errno.EDQUOT: RepositoryFull,
    errno.EIO: RepositoryNotWritable,
    errno.EROFS: RepositoryNotWritable,
}


def check(repository: Repository) -> list[str]:
    """Every capture reads back; their ids, newest first."""
    manifests = repository.manifests()
    for manifest in manifests:
        wanted = (FIRST,) if manifest.capture_id == capture_id(1) else DISKS
        assert tuple(read_disk(repository, disk.index) for _, disk in manifest.disks()) == wanted
    return [one.capture_id for one in manifests]


def made(log: list[Step]) -> list[Path]:
    """What steps gave a name to, or would have."""
    return [step.target or step.path for step in log if step.call in {"create", "rename", "link"}]


def attempt(root: Path, troubled: Watched) -> RepositoryError | None:
    """A capture; what it ended with."""
    try:
        capture(Repository.open_in(DirectoryStore(root, troubled)), 2)
    except (RepositoryFull, RepositoryNotWritable) as error:
        return error
    return None


@pytest.mark.parametrize("stays", [True, False], ids=["for good", "once"])
def test_an_error_at_any_step_ends_the_capture_and_nothing_else(root: Path, stays: bool) -> None:  # noqa: FBT001
    """Every step in turn, full and read-only and broken. What cannot be taken from `tmp/` any more stays there."""
    sound = Repository.init(root, chunk_bytes=CHUNK)
    before = seal(sound, 1, FIRST)
    for nth in range(1000):
        for number, expected in ENDS.items():
            troubled = Troubled(number, nth, stays=stays)
            error = attempt(root, troubled)
            if len(troubled.log) <= nth:
                assert error is None
                assert nth > 50
                return
            captures = check(sound)
            if captures[0] == capture_id(2) and troubled.log[nth].call == "unlink":
                assert error is None  # it was sealed before its second name was to go
            else:
                assert type(error) is expected, troubled.log[nth]
                assert str(root) in str(error)
            assert captures[-1] == before.capture_id
            for path in made(troubled.log):
                if path.parent.parent.name == "chunks" and path.exists():
                    unseal(path.read_bytes(), bytes.fromhex(path.name))
                if path.parent.name == "tmp" and not stays and troubled.log[nth].call != "unlink":
                    assert not path.exists()
                path.unlink(missing_ok=True)
    pytest.fail("no run came to its end")


def test_the_next_capture_goes_through_when_the_trouble_is_over(root: Path) -> None:
    """With all that the failed ones left still there."""
    seal(Repository.init(root, chunk_bytes=CHUNK), 1, FIRST)
    for nth in range(0, 120, 3):
        attempt(root, Troubled(errno.EIO, nth, stays=False))
    capture(Repository.open(root), 3)
    assert check(Repository.open(root))[0] == capture_id(3)


@pytest.mark.parametrize("call", ["fsync", "fsync_folder"])
def test_an_fsync_that_failed_is_not_asked_again(root: Path, repository: Repository, call: str) -> None:
    """The kernel says it once and forgets the pages; a second fsync would say that all is well. So the batch is given up."""
    failing = Failing(call, errno.EIO, stays=False)
    with pytest.raises(RepositoryNotWritable, match="Input/output error"):
        store_disk(Repository.open_in(DirectoryStore(root, failing)), disk_of(b"a", b"b", b"c"))
    steps = [step for step in failing.log if step.call == call]
    assert len(steps) == 1
    assert not [step for step in failing.log[failing.log.index(steps[0]) :] if step.call in {"rename", "link", "write"}]
    assert not list((root / "indexes").rglob("??/*"))


def test_after_an_error_the_rest_of_a_writer_is_refused(root: Path, repository: Repository) -> None:
    """Also what is written after it, and `finish`: an index would refer to what is not there."""
    troubled = Repository.open_in(DirectoryStore(root, Failing("fsync", errno.EIO, stays=False)))
    with troubled.disk_writer(64 * CHUNK) as writer:
        with pytest.raises(RepositoryNotWritable):
            write(writer, random_disk(64))
        for refused in (lambda: writer.write_chunk(0, random_disk(1)), writer.finish):
            with pytest.raises(RepositoryNotWritable):
                refused()
    assert not list((root / "indexes").rglob("??/*"))


class Doubtful(MemoryStore):
    """Does each write, and says of the first try of each that it failed."""

    def __init__(self) -> None:
        super().__init__()
        self._tried: set[str] = set()
        self._counting = threading.Lock()

    def _doubt(self, name: str) -> None:
        with self._counting:
            first = name not in self._tried
            self._tried.add(name)
        if first:
            raise RepositoryNotWritable("The answer was lost.", transient=True)

    def put_if_absent(self, name: str, data: Buffer) -> None:
        super().put_if_absent(name, data)
        self._doubt(name)


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_store_that_did_what_it_said_it_had_not_gives_one_capture(protection: str) -> None:
    """Config, key slot and manifest are each created twice; sealed, with the same bytes each time."""
    store = Retrying(Doubtful(), Patience(60, sleep=lambda _: None))
    repository = protected(protection, store)
    seal(repository, 1, FIRST)
    capture(repository, 2)
    assert check(repository) == [capture_id(2), capture_id(1)]


# reading


class Unreadable(io.FileIO):
    """Breaks after `good` reads."""

    good = 0

    def readinto(self, buffer: Buffer) -> int:
        self._count()
        return cast("int", super().readinto(buffer))

    def readall(self) -> bytes:
        self._count()
        return super().readall()

    def _count(self) -> None:
        if self.good == 0:
            raise OSError(errno.EIO, "Input/output error")
        self.good -= 1


class BadSectors(Filesystem):
    """Files under a folder break after some reads."""

    def __init__(self, folder: str, good: int = 0) -> None:
        self._folder, self._good = folder, good

    def open(self, path: StrPath) -> io.RawIOBase:
        if self._folder not in Path(path).parts:
            return super().open(path)
        file = Unreadable(path)
        file.good = self._good
        return file


def ways(repository: Repository) -> dict[str, Callable[[], object]]:
    """Of reading, by the folder that they meet first."""
    manifest = repository.manifest("latest")
    index = manifest.guests[0].disks[0].index
    return {
        "manifests": repository.manifests,
        "indexes": lambda: repository.disk_reader(index),
        "chunks": lambda: read_disk(repository, index),
    }


@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("folder", ["manifests", "indexes", "chunks"])
def test_a_disk_that_cannot_be_read_is_named(root: Path, repository: Repository, folder: str, good: int) -> None:
    seal(repository, 1, FIRST)
    read = ways(repository)[folder]
    repository.store._fs = BadSectors(folder, good)  # type: ignore[attr-defined]
    if good and folder != "indexes":  # they are read at once; an index is read twice, and breaks the second time
        read()
        return
    with pytest.raises(RepositoryNotReadable, match=rf"{root / folder}\S* failed: Input/output error"):
        read()


def test_verify_goes_on_past_a_disk_that_cannot_be_read(root: Path, repository: Repository) -> None:
    manifest = seal(repository, 1, FIRST)
    for folder in ("indexes", "chunks"):
        troubled = Repository.open_in(DirectoryStore(root, BadSectors(folder)))
        report = verify(troubled, [manifest], Tier.REHASHED)
        assert len(report.indexes if folder == "indexes" else report.chunks) == (1 if folder == "indexes" else 4)
        assert report.damaged_captures == [capture_id(1)]


def read_all(root: Path, manifest: Manifest) -> None:
    repository = Repository.open(root)
    repository.manifests()
    read_disk(repository, manifest.guests[0].disks[0].index)


@pytest.mark.parametrize("kind", ["chunks", "manifests", "config"])
def test_a_file_whose_length_is_damaged_takes_no_memory(root: Path, repository: Repository, kind: str) -> None:
    """A sparse file may claim any length; it would be read in one piece."""
    manifest = seal(repository, 1, FIRST)
    path = root / kind if kind == "config" else next(path for path in (root / kind).rglob("*") if path.is_file())
    os.truncate(path, 1 << 40)
    with pytest.raises(RepositoryDamaged, match=path.name.removesuffix(".json")):
        read_all(root, manifest)


def test_an_index_whose_length_is_damaged_is_damage(root: Path, repository: Repository) -> None:
    manifest = seal(repository, 1, FIRST)
    index = manifest.guests[0].disks[0].index
    path = root / "indexes" / index[:2] / index
    os.truncate(path, 1 << 28)
    with pytest.raises(IndexDamaged, match=index):
        repository.disk_reader(index)
