"""Whatever dies when: sealed captures read back, and what is visible is whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import pytest

from freezeframe.repository import Repository, verify
from freezeframe.repository.chunk import unseal
from freezeframe.repository.errors import ChunkDamaged
from freezeframe.repository.store import DirectoryStore
from freezeframe.repository.store.address import create_store

from .locked import KEY, locked, locked_at
from .power import Device, Dying, PowerCut
from .samples import capture_id, disk_of, read_disk, seal, store_disk

FIRST = disk_of(b"a", b"", b"b", b"c")
SECOND = disk_of(b"a", b"d", b"b", b"e")

#: Many more steps than two disks of four chunks take; a run that ends alive ends the loop.
STEPS = 400


def chance(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - the same cut again for the same seed


def check(root: Path, sealed: dict[str, bytes]) -> None:
    """Everything visible is whole, everything `sealed` is there, and every capture reads back."""
    repository = Repository.open(root)
    for path in (root / "chunks").rglob("??/*"):
        unseal(path.read_bytes(), bytes.fromhex(path.name))
    for path in (root / "indexes").rglob("??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    found = {one.capture_id: one for one in repository.manifests()}
    assert sealed.keys() <= found.keys()
    wanted = {capture_id(1): FIRST, capture_id(2): SECOND}
    for one in found.values():
        assert read_disk(repository, one.guests[0].disks[0].index) == wanted[one.capture_id]


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_after_any_step_harms_no_sealed_capture(memory_path: Path, seed: int) -> None:
    for steps in range(STEPS):
        root = memory_path / str(steps)
        seal(Repository.init(root), 1, FIRST)
        sealed = {capture_id(1): FIRST}
        device = Device(root)
        try:
            seal(Repository.open_in(DirectoryStore(root, Dying(device, steps))), 2, SECOND)
            sealed[capture_id(2)] = SECOND
        except PowerCut:
            pass
        device.cut(chance(seed))
        check(root, sealed)
        if len(sealed) == 2:
            assert steps > 20
            return
        seal(Repository.open(root), 2, SECOND)  # and the repository goes on as if nothing had been
        check(root, {**sealed, capture_id(2): SECOND})
    pytest.fail("no run came to its end")


@pytest.mark.parametrize("seed", range(4))
def test_what_one_writer_left_unsettled_another_may_use(memory_path: Path, seed: int) -> None:
    """The first dies between a chunk's rename and its folder's fsync; the second finds the chunk; then the power goes."""
    for steps in range(STEPS):
        root = memory_path / str(steps)
        Repository.init(root)
        device = Device(root)
        lived = True
        try:
            store_disk(Repository.open_in(DirectoryStore(root, Dying(device, steps))), SECOND)
        except PowerCut:
            lived = False
        seal(Repository.open_in(DirectoryStore(root, Dying(device))), 2, SECOND)
        device.cut(chance(seed))
        check(root, {capture_id(2): SECOND})
        if lived:
            return
    pytest.fail("no run came to its end")


def test_a_writer_that_did_not_settle_would_be_caught(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without settling, what it asserts does not hold."""
    monkeypatch.setattr(DirectoryStore, "settle", lambda *_: None)
    with pytest.raises(ChunkDamaged, match="missing"):
        test_what_one_writer_left_unsettled_another_may_use(memory_path, 0)


@pytest.mark.parametrize("seed", range(2))
def test_init_may_be_cut_and_begun_again(memory_path: Path, seed: int) -> None:
    for steps in [0, 1, 2, 7, 300, *range(515, STEPS * 2)]:
        root = memory_path / str(steps)
        device = Device(root)
        try:
            Repository.init_in(create_store(root, Dying(device, steps)))
        except PowerCut:
            device.cut(chance(seed))
            if (root / "config").exists():
                Repository.open(root)
            else:
                Repository.init(root)
            check(root, {})
        else:
            return
    pytest.fail("no run came to its end")


def test_init_of_an_encrypted_one_may_be_cut_and_begun_again(memory_path: Path) -> None:
    """Whenever it exists it opens: its first key slot is there before its config. What a cut left is in nobody's way."""
    for steps in [300, *range(515, STEPS * 2)]:
        root = memory_path / str(steps)
        device = Device(root)
        try:
            locked(create_store(root, Dying(device, steps), authenticated=True))
        except PowerCut:
            device.cut(chance(steps))
            if not (root / "config").exists():
                locked_at(root)
            seal(Repository.open(root, KEY), 1, FIRST)
        else:
            return
    pytest.fail("no run came to its end")


def test_a_power_cut_harms_no_sealed_capture_of_an_encrypted_one(memory_path: Path) -> None:
    for steps in range(0, STEPS, 5):
        root = memory_path / str(steps)
        seal(locked_at(root), 1, FIRST)
        device = Device(root)
        lived = True
        try:
            seal(Repository.open_in(DirectoryStore(root, Dying(device, steps)), KEY), 2, SECOND)
        except PowerCut:
            lived = False
        device.cut(chance(steps))
        repository = Repository.open(root, KEY)
        assert verify(repository, repository.manifests()).sound
        assert capture_id(2 if lived else 1) in {one.capture_id for one in repository.manifests()}
        if lived:
            return
    pytest.fail("no run came to its end")
