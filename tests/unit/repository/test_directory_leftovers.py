"""What a directory store leaves behind: no empty folder of a run, no open file, and nothing that waits to be written."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.repository.errors import RepositoryFull
from freezeframe.repository.layout import CONDEMNED, CONFIG, condemned_folder, condemned_name, locate, run_name
from freezeframe.repository.store import DirectoryStore, filesystem
from freezeframe.repository.store.address import create_store
from freezeframe.repository.store.filesystem import Filesystem, StrPath

from .power import Failing, Watched
from .samples import capture_id

NAMES = [locate(bytes([first, second]) + bytes(30)) for first in (1, 2) for second in (1, 2)]
RUN = capture_id(1)


class Opened(Failing):
    """Knows which files are open, and which the device was told to begin with. Full from one write on, if that is wanted."""

    def __init__(self, full_from: int | None = None) -> None:
        super().__init__("write", errno.ENOSPC, nth=10_000 if full_from is None else full_from)
        self.fds: set[int] = set()
        self.begun: list[int] = []
        self.synced: list[tuple[int, bool]] = []

    def create(self, path: StrPath) -> int:
        fd = super().create(path)
        self.fds.add(fd)
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        self.fds.remove(fd)

    def fsync(self, fd: int) -> None:
        self.synced.append((fd, fd in self.begun))
        super().fsync(fd)


@pytest.fixture
def root(memory_path: Path) -> Path:
    create_store(memory_path / "store")
    return memory_path / "store"


@pytest.mark.parametrize("away", ["delete", "move back"])
def test_a_runs_folders_go_with_the_last_object_of_each_and_not_before(root: Path, away: str) -> None:
    store = DirectoryStore(root)
    store.put_many([(name, b"chunk") for name in NAMES])
    for name in NAMES:
        store.move(name, condemned_name(RUN, name))
    folder = root / condemned_folder(RUN)
    for number, name in enumerate(NAMES):
        assert sorted(path.name for path in folder.glob("chunks/*")) == ["01", "02"][number // 2 :]
        if away == "delete":
            store.delete(condemned_name(RUN, name))
        else:
            store.move(condemned_name(RUN, name), name)
    assert not folder.exists()
    assert (root / CONDEMNED).is_dir()


def test_what_a_crash_has_left_of_a_runs_folders_goes_with_its_record(root: Path) -> None:
    store = DirectoryStore(root)
    store.put_many([(run_name(RUN), b"{}")])
    for name in ("chunks/01", "indexes/ff", "manifests"):
        (root / condemned_name(RUN, name)).mkdir(parents=True)
    store.delete(run_name(RUN))
    assert list((root / CONDEMNED).iterdir()) == []


def test_a_record_that_goes_takes_no_object_with_it(root: Path) -> None:
    store = DirectoryStore(root)
    store.put_many([(NAMES[0], b"chunk"), (run_name(RUN), b"{}")])
    store.move(NAMES[0], condemned_name(RUN, NAMES[0]))
    (root / condemned_name(RUN, "chunks/05")).mkdir()
    store.delete(run_name(RUN))
    assert store.get(condemned_name(RUN, NAMES[0])) == b"chunk"
    assert not (root / condemned_name(RUN, "chunks/05")).exists()


WAYS: dict[str, Callable[[DirectoryStore], None]] = {
    "put": lambda store: store.put(NAMES[0], BytesIO(bytes(5 << 20))),
    "put many": lambda store: store.put_many([(name, b"chunk") for name in NAMES * 40]),
    "put if absent": lambda store: store.put_if_absent(CONFIG, b"{}"),
    "check": lambda store: store.check_writable(),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_file_stays_open(root: Path, way: str) -> None:
    opened = Opened()
    WAYS[way](DirectoryStore(root, opened))
    assert opened.fds == set()
    assert [step for step in opened.log if step.call == "create"]


@pytest.mark.parametrize("full_from", [0, 1, 3])
def test_no_file_stays_open_or_in_tmp_where_there_is_no_room(root: Path, full_from: int) -> None:
    opened = Opened(full_from)
    store = DirectoryStore(root, opened)
    with pytest.raises(RepositoryFull):
        store.put_many([(name, b"chunk") for name in NAMES])
    assert opened.fds == set()
    assert list(store.names("tmp")) == []


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A file system whose device notes what it was told to begin with."""
    opened = Opened()

    def begin(fd: int, offset: int, length: int, flags: int) -> int:
        assert (offset, length, flags) == (0, 0, 2)  # all of it; do not wait [sync_file_range(2)]
        opened.begun.append(fd)
        return 0

    monkeypatch.setattr(Filesystem, "_writeback", staticmethod(begin))
    return opened


@pytest.mark.parametrize("way", WAYS)
def test_the_device_begins_with_what_is_written_before_anybody_waits_for_it(
    root: Path, way: str, begun: Opened
) -> None:
    """Else all of a batch is written only when the first fsync asks: three times as slow (see store/directory.py)."""
    WAYS[way](DirectoryStore(root, begun))
    assert begun.synced
    assert all(was_begun for _, was_begun in begun.synced)


def test_where_the_c_library_cannot_begin_early_all_is_stored_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    monkeypatch.setattr(Filesystem, "_writeback", staticmethod(filesystem._sync_file_range()))  # type: ignore[arg-type]
    store = DirectoryStore(root)
    store.put(NAMES[0], BytesIO(b"chunk"))
    assert store.get(NAMES[0]) == b"chunk"


def test_an_object_is_shown_only_after_its_bytes_are_durable(root: Path) -> None:
    watched = Watched()
    DirectoryStore(root, watched).put_many([(name, b"chunk") for name in NAMES])
    calls = [step.call for step in watched.log]
    assert calls == ["create", "write"] * 4 + ["fsync"] * 4 + ["rename"] * 4
