"""Whoever sets aside, puts back or clears may die at any step: nothing sound is lost, and the next run finishes it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from freezeframe.repository import Repository, verify
from freezeframe.repository.layout import locate
from freezeframe.repository.store import DirectoryStore

from .power import Device, Dying, PowerCut, Step
from .samples import capture_id, disk_of, read_disk, seal

DISK = disk_of(b"a", b"b", b"c")
STEPS = 100


@dataclass
class Moving(Device):
    """A file system whose renames are atomic: one that a power cut takes back leaves the old name."""

    moves: list[tuple[Path, Path]] = field(default_factory=list)

    def note(self, step: Step, fd: int | None) -> None:
        if step.call == "rename" and step.target is not None and step.path.parent.name != "tmp":
            self.moves.append((step.path, step.target))
            return
        super().note(step, fd)
        if step.call == "fsync_folder":
            self.moves = [one for one in self.moves if one[1].parent != step.path]

    def cut(self, random: Random) -> None:
        for source, target in reversed(self.moves):
            if random.random() < 0.5 and target.exists():
                target.rename(source)
        super().cut(random)


def chunk_file(root: Path, slot: int) -> Path:
    repository = Repository.open(root)
    with repository.index(repository.manifest(capture_id(1)).guests[0].disks[0].index) as index:
        return root / locate(index.digest_at(slot) or b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def begun(root: Path) -> Repository:
    repository = Repository.init(root, chunk_bytes=4096)
    seal(repository, 1, DISK)
    return repository


def damaged(root: Path) -> None:
    """One chunk is damaged."""
    begun(root)
    flip(chunk_file(root, 1))


def repaired(root: Path) -> None:
    """One chunk was set aside, and written anew since."""
    damaged(root)
    repository = Repository.open(root)
    verify(repository, repository.manifests(), set_aside=True)
    seal(repository, 2, DISK)


def wrongly_set_aside(root: Path) -> None:
    """One chunk is set aside, and sound."""
    damaged(root)
    repository = Repository.open(root)
    name = chunk_file(root, 1).name
    verify(repository, repository.manifests(), set_aside=True)
    flip(root / "damaged" / name)


@pytest.mark.parametrize("make", [damaged, repaired, wrongly_set_aside])
@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_at_any_step_of_a_verification_loses_nothing_and_hides_nothing(
    memory_path: Path, make: object, seed: int
) -> None:
    for steps in range(STEPS):
        root = memory_path / str(steps)
        make(root)  # type: ignore[operator]
        device = Moving(root)
        lived = True
        try:
            repository = Repository.open_in(DirectoryStore(root, Dying(device, steps)))
            verify(repository, repository.manifests(), set_aside=True)
        except PowerCut:
            lived = False
        device.cut(Random(seed))  # noqa: S311  the same cut again for the same seed
        age_claims(root)
        finish(Repository.open(root), was_damaged=make is damaged)
        if lived:
            assert steps > 1
            return
    pytest.fail("no run came to its end")


def age_claims(root: Path) -> None:
    """Have two hours passed since the documents in `damaged/` were written."""
    for path in (root / "damaged").glob("*.json"):
        written_s = path.stat().st_mtime - 2 * 3600
        os.utime(path, (written_s, written_s))


def finish(repository: Repository, *, was_damaged: bool) -> None:
    """Check that damage is found and no other; the next capture and one more run leave nothing behind."""
    report = verify(repository, repository.manifests(), set_aside=True)
    assert len(report.chunks) == (1 if was_damaged else 0)
    if was_damaged:
        seal(repository, 3, DISK)
        assert verify(repository, repository.manifests(), set_aside=True).sound
    for manifest in repository.manifests():
        assert read_disk(repository, manifest.guests[0].disks[0].index) == DISK
    assert list(repository.store.names("damaged")) == []
