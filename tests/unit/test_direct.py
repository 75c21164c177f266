"""Direct writes: the same bytes, past the page cache; the usual way where a file system will not."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typing_extensions import Buffer

from freezeframe import direct
from freezeframe.direct import BLOCK_BYTES, DIRECT_FROM_BYTES, opened_again
from freezeframe.repository.store.filesystem import Filesystem
from workers.restore.descriptor import Descriptor

MIB = 1 << 20
LENGTHS = [
    1,
    DIRECT_FROM_BYTES - 1,
    DIRECT_FROM_BYTES,
    DIRECT_FROM_BYTES + 1,
    MIB,
    MIB + 4096,
    MIB + 12,
    3 * MIB,
    3 * MIB - 1,
    5 * MIB + 4096,
]


def aligned(data: bytes) -> memoryview:
    view = memoryview(mmap.mmap(-1, len(data)))
    view[:] = data
    return view


def unaligned(data: bytes) -> memoryview:
    view = memoryview(mmap.mmap(-1, len(data) + 1))[1:]
    view[:] = data
    return view


@pytest.fixture
def path() -> Iterator[Path]:
    """On a disk, where /tmp may be memory: that has nothing but its page cache."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory) / "file"


def cached(fd: int, length: int) -> list[int]:
    """Which blocks of the file's first `length` bytes are in the page cache. [mincore(2)]"""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = (ctypes.c_ubyte * -(-length // BLOCK_BYTES))()
    with mmap.mmap(fd, length) as view:
        start = ctypes.c_char.from_buffer(view)
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(length), flags) == 0
        del start
    return [number for number, flag in enumerate(flags) if flag & 1]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", [bytes, bytearray, aligned, unaligned])
def test_a_file_has_the_bytes_that_were_written(path: Path, length: int, kind: Callable[[bytes], Buffer]) -> None:
    filesystem, data = Filesystem(), os.urandom(length)
    fd = filesystem.create(path)
    filesystem.write_new(fd, kind(data))
    filesystem.fsync(fd)
    filesystem.close(fd)
    assert path.read_bytes() == data


@pytest.mark.parametrize("kind", [bytes, aligned, unaligned])
@pytest.mark.parametrize(("length", "direct"), [(2 * MIB, True), (2 * MIB + 5, False), (8192, False)])
def test_what_is_many_whole_blocks_is_not_in_the_page_cache(
    path: Path, length: int, kind: Callable[[bytes], Buffer], *, direct: bool
) -> None:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    Filesystem().write_new(file, kind(os.urandom(length)))
    assert cached(file, length) == ([] if direct else list(range(-(-length // BLOCK_BYTES))))
    os.close(file)


def test_what_is_aligned_is_not_copied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_copied", lambda piece: pytest.fail("it was copied"))
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    Filesystem().write_new(fd, aligned(bytes(3 * MIB)))
    os.close(fd)


def test_many_threads_write_past_the_cache_to_one_file_with_holes(path: Path) -> None:
    pieces = {slot * 2 * MIB + 64 * 1024: os.urandom(MIB) for slot in range(8)}
    with path.open("w+b") as file, opened_again(file.fileno()) as direct_fd:
        assert direct_fd is not None
        descriptor = Descriptor(file.fileno(), path, direct_fd)
        descriptor.truncate(17 * MIB)
        threads = [
            threading.Thread(target=descriptor.write, args=(at, memoryview(data))) for at, data in pieces.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cached(file.fileno(), 17 * MIB) == []
        assert all(descriptor.read(at, MIB) == data for at, data in pieces.items())
        assert os.fstat(file.fileno()).st_blocks * 512 < 9 * MIB


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
@pytest.mark.parametrize("refused", ["flag", "write"])
def test_where_it_is_refused_the_usual_way_serves_and_nobody_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, refused: str
) -> None:
    asked: list[str] = []
    change, pwrite = fcntl.fcntl, os.pwrite

    def flag(fd: int, what: int, flags: int = 0) -> int:
        if refused == "flag" and flags & os.O_DIRECT:
            asked.append("flag")
            raise OSError(number, os.strerror(number))
        return change(fd, what, flags)

    def write(fd: int, data: memoryview, offset: int) -> int:
        if change(fd, fcntl.F_GETFL) & os.O_DIRECT:
            asked.append("write")
            raise OSError(number, os.strerror(number))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(fcntl, "fcntl", flag)
    monkeypatch.setattr(os, "pwrite", write)
    filesystem, data = Filesystem(), os.urandom(MIB)
    for name in ("one", "two"):
        fd = filesystem.create(tmp_path / name)
        filesystem.write_new(fd, data)
        filesystem.close(fd)
        assert (tmp_path / name).read_bytes() == data
    assert asked == [refused]


def test_what_cannot_be_opened_so_is_written_the_usual_way(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with opened_again(reading) as direct_fd:  # the reading end is not to be opened for writing
        assert direct_fd is None
    os.close(reading)
    os.close(writing)
    path = tmp_path / "file"
    with path.open("w+b") as file:
        Descriptor(file.fileno(), path, None).write(0, memoryview(b"x" * MIB))
        assert os.fstat(file.fileno()).st_size == MIB


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_does_not_write_into_our_buffer() -> None:
    """As those of a data worker are, each for a transfer."""
    buffer = direct._buffer()
    buffer[:4] = b"ours"
    pid = os.fork()
    if not pid:
        direct._buffer()[:4] = b"his!"
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert bytes(buffer[:4]) == b"ours"


def test_no_space_is_told_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a piece fits: what is left is tried the usual way, whose error is the one that is told."""
    pwrite = os.pwrite
    room = [MIB // 2 + 100, 0]

    def tight(fd: int, data: memoryview, offset: int) -> int:
        length = min(len(data), room.pop(0)) if room else len(data)
        if not length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, bytes(data[:length]), offset)

    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(os, "pwrite", tight)
    with pytest.raises(OSError, match="No space left"):
        Filesystem().write_new(fd, bytes(MIB))
    os.close(fd)
