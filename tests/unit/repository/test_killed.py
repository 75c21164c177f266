"""SIGKILL at every write, fsync, rename, link and delete of a capturing process, one after the other.

After each: what was sealed reads back, the new capture is there whole or not at all, what else is left is what the table of
crash windows in docs/repository.md names, and the next capture goes through.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from freezeframe.repository import Repository, verify
from freezeframe.repository.chunk import unseal
from freezeframe.repository.store.address import create_store

from . import killed
from .killed import DISKS, FIRST
from .locked import PROTECTIONS, SECRET, Key, protected
from .samples import capture_id, read_disk, seal

Run = Callable[[Path, int, str], int]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with killed.server() as run:
        yield run


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def check(repository: Repository) -> list[str]:
    """Every capture reads back; the ids, newest first."""
    manifests = repository.manifests()
    for manifest in manifests:
        wanted = (FIRST,) if manifest.capture_id == capture_id(1) else DISKS
        found = tuple(read_disk(repository, disk.index) for _, disk in manifest.disks())
        assert found == wanted
    assert verify(repository, manifests).sound
    return [one.capture_id for one in manifests]


def left(repository: Repository, root: Path, before: dict[Path, bytes]) -> None:
    """What a killed writer may leave, by docs/repository.md: whole objects without a reference, and what is in `tmp/`."""
    protection, chunks = repository.objects.protection, killed.chunk_names(repository)
    for path, content in files(root).items():
        name = str(path.relative_to(root))
        if path in before:
            assert content == before[path]
        elif name.startswith("chunks/"):
            unseal(protection.reveal(name, content), chunks[name])
        elif name.startswith("indexes/"):
            plain = protection.reveal(name, content)
            assert protection.index_name(hashlib.sha256(plain).digest()) == name
        else:
            assert name.startswith(("tmp/", "manifests/", "keys/"))


def fresh(root: Path, protection: str) -> tuple[Repository, Key]:
    """A repository with one capture, and the key for it."""
    with_keys = protection != "plain"
    made = protected(protection, create_store(root, authenticated=with_keys))
    seal(made, 1, FIRST)
    return made, Key(SECRET if with_keys else None)


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_a_process_killed_at_any_step_harms_no_sealed_capture(memory_path: Path, run: Run, protection: str) -> None:
    root = memory_path / "repository"
    _, key = fresh(root, protection)
    before = files(root)
    seen = set()
    for steps in range(1000):
        ended = run(root, steps, protection)
        repository = Repository.open(root, key)
        captures = check(repository)
        left(repository, root, before)
        seen.add(len(captures))
        if ended == 0:
            assert captures == [capture_id(2), capture_id(1)]
            assert steps > 50
            break
        assert ended == -signal.SIGKILL
        killed.capture(repository, 3)
        killed.capture(repository, 2)  # whoever seals was not told "sealed", and seals again
        assert check(Repository.open(root, key)) == [capture_id(n) for n in (3, 2, 1)]
        for path in set(files(root)) - set(before):
            path.unlink()
    else:
        pytest.fail("no run came to its end")
    assert seen == {1, 2}


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_processes_that_write_the_same_at_once_do_not_harm_each_other(
    memory_path: Path, run: Run, protection: str
) -> None:
    """The same chunks, indexes and manifest, from two processes; then one of them is killed on the way."""
    root = memory_path / "repository"
    repository, key = fresh(root, protection)
    before = files(root)
    with killed.server() as other, ThreadPoolExecutor(2) as pool:
        for steps in (killed.LIVES, *range(1, 40, 2)):
            one = pool.submit(run, root, killed.LIVES, protection)
            two = pool.submit(other, root, steps, protection)
            assert one.result() == 0
            assert two.result() in {0, -signal.SIGKILL}  # 0 too: the other has left it less to do
            assert check(Repository.open(root, key)) == [capture_id(2), capture_id(1)]
            left(repository, root, before)
            for path in set(files(root)) - set(before):
                path.unlink()
