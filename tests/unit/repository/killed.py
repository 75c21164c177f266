"""A process that captures, and is killed by SIGKILL at one of its steps: `python -m tests.unit.repository.killed`.

    test ─ "root steps protection" ─▶ this server, no threads ─ fork ─▶ a capture that dies at that step, or lives
         ◀─ 0 or -9 ───────────────

Unlike `power.Dying` nothing of the process lives on: no `finally`, no thread that finishes its batch, no lock that is let go.
What the kernel was given stays, as it does when a worker is killed and the host lives.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from freezeframe.repository import Repository, commit
from freezeframe.repository.chunk import digest_of_chunk
from freezeframe.repository.store import DirectoryStore
from freezeframe.repository.store.filesystem import Filesystem

from .locked import KEY, KEY_FILE, Key
from .samples import CHUNK, disk_capture, disk_of, manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from freezeframe.repository import Manifest
    from freezeframe.repository.store.filesystem import StrPath

#: As a number of steps: of all.
LIVES = -1

#: Two disks that share chunks with each other and with the capture before; several batches of each at once.
FIRST = disk_of(b"a", b"", b"b", b"c", b"d")
DISKS = (disk_of(b"a", b"e", b"f", b"g", b"h", b"i", b""), disk_of(b"e", b"b", b"j", b"k") + b"the end")


class Killing(Filesystem):
    """Makes `steps` steps; at the next the process is killed. A write is made by half first."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps
        self._lock = threading.Lock()

    def _step(self, half: Callable[[], object] = lambda: None) -> None:
        with self._lock:
            if self._left == 0:
                half()
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()
            self._left -= 1

    def create(self, path: StrPath) -> int:
        self._step()
        return super().create(path)

    def write_new(self, fd: int, data: Buffer) -> None:
        self._step(lambda: os.pwrite(fd, memoryview(data)[: len(memoryview(data)) // 2], 0))
        super().write_new(fd, data)

    def write(self, fd: int, data: Buffer, offset: int) -> None:
        self._step(lambda: os.pwrite(fd, memoryview(data)[: len(memoryview(data)) // 2], offset))
        super().write(fd, data, offset)

    def fsync(self, fd: int) -> None:
        self._step()
        super().fsync(fd)

    def rename(self, source: StrPath, target: StrPath) -> None:
        self._step()
        super().rename(source, target)

    def link(self, source: StrPath, target: StrPath) -> None:
        self._step()
        super().link(source, target)

    def unlink(self, path: StrPath) -> None:
        self._step()
        super().unlink(path)

    def fsync_folder(self, path: StrPath) -> None:
        self._step()
        super().fsync_folder(path)


def capture(repository: Repository, number: int) -> Manifest:
    """Both disks, then the manifest: what two transfers and a seal do."""
    disks = []
    for disk, target in zip(DISKS, ("vda", "vdb"), strict=True):
        with repository.disk_writer(len(disk), CHUNK) as writer:
            for slot, offset in enumerate(range(0, len(disk), CHUNK)):
                writer.write_chunk(slot, disk[offset : offset + CHUNK])
            disks.append(disk_capture(writer.finish().digest, len(disk), target=target))
    manifest = manifest_of(number, *disks)
    repository.write_manifest(manifest)
    return manifest


def chunk_names(repository: Repository) -> dict[str, bytes]:
    """The digests of the capture's chunks, by the names of their objects."""
    digests = [digest_of_chunk(disk[at : at + CHUNK]) for disk in DISKS for at in range(0, len(disk), CHUNK)]
    return {repository.objects.protection.locate(digest): digest for digest in digests}


def work(root: Path, steps: int, *, with_keys: bool) -> None:
    """A capture; in a repository with keys also a key slot more, and then one less."""
    commit.BATCH_OBJECTS = 2  # type: ignore[misc]
    repository = Repository.open_in(DirectoryStore(root, Killing(steps)), KEY if with_keys else Key(None))
    if with_keys:
        slots, keys = repository.encryption
        slots.remove(keys, slots.add(keys, KEY_FILE, "for a while"))
    capture(repository, 2)


def serve() -> None:
    for line in sys.stdin:
        root, steps, protection = line.split()
        pid = os.fork()
        if not pid:
            try:
                work(Path(root), int(steps), with_keys=protection != "plain")
            except BaseException:  # noqa: BLE001 - told by the exit status
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


@contextmanager
def server() -> Iterator[Callable[[Path, int, str], int]]:
    """Gives a function of root, steps and one of `PROTECTIONS` that says how the process ended."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.unit.repository.killed"]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError
        asked, said = process.stdin, process.stdout

        def run(path: Path, steps: int, protection: str) -> int:
            asked.write(f"{path} {steps} {protection}\n")
            asked.flush()
            return int(said.readline())

        try:
            yield run
        finally:
            asked.close()


if __name__ == "__main__":
    serve()
