"""A power cut at any step of sealing, forgetting and collecting: what is sealed reads back, the next runs finish the work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.chunk import digest_of_chunk
from freezeframe.repository.garbage import collect
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import (
    CHUNKS,
    CONDEMNED,
    FORGOTTEN,
    SESSIONS,
    TMP,
    condemned_name,
    locate,
)
from freezeframe.repository.store import DirectoryStore, directory

from .power import Device, Dying, PowerCut
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk
from .test_crash import chance
from .times import SetForward

DISKS = {
    1: disk_of(b"a", b"b"),
    2: disk_of(b"b", b"c", b"d"),  # is forgotten
    3: disk_of(b"e"),  # condemned by a run that finished, and needed
    4: disk_of(b"f", b"g"),  # condemned by a run that died, and needed
    5: disk_of(b"c", b"h"),  # is written and sealed here; shares with 2
    6: disk_of(b"i"),  # condemned by a run that finished, and needed by nobody
}
FINISHED, DIED = capture_id(8), capture_id(9)

#: Every how manieth step is cut at, usually; a long run cuts at each, many times.
STRIDE = 6
STEPS = 1000


def a_repository(root: Path, time: SetForward) -> None:
    """With everything in it that a run may find."""
    repository = Repository.init(root, chunk_bytes=CHUNK)
    for number in (1, 2, 3, 4):
        seal(repository, number, DISKS[number])
    store_disk(repository, DISKS[6])
    Records(repository.objects).put(RunRecord(run_id=FINISHED, begun_at=time(), finished_at=time()))
    Records(repository.objects).put(RunRecord(run_id=DIED, begun_at=time()))
    for letter, run in ((b"e", FINISHED), (b"i", FINISHED), (b"f", DIED)):
        name = locate(digest_of_chunk(disk_of(letter)))
        repository.store.move(name, condemned_name(run, name))


def live(repository: Repository, time: SetForward) -> None:
    """Seal one, forget one, collect."""
    repository.sessions.begin(capture_id(5), "test")
    disk = disk_capture(store_disk(repository, DISKS[5]), len(DISKS[5]))
    repository.seal(manifest_of(5, disk))
    repository.sessions.end(capture_id(5), sealed=True)
    repository.forget(capture_id(2))
    collect(repository, grace=timedelta(0), clock=time, threads=0)


def check(repository: Repository, *, sealed: set[int]) -> set[int]:
    found = {int(one.capture_id[4:]): one for one in repository.manifests()}
    assert sealed <= found.keys() <= {1, 2, 3, 4, 5}
    assert verify(repository, found.values(), Tier.PRESENT).damaged_captures == []
    for number, one in found.items():
        assert read_disk(repository, one.guests[0].disks[0].index) == DISKS[number]
    return set(found)


def finish(root: Path, time: SetForward) -> None:
    """The next runs leave what captures need, and nothing else."""
    repository = Repository.open(root)
    for _ in range(3):
        time.pass_(days=9)
        collect(repository, grace=timedelta(0), clock=time, threads=0)
    there = check(repository, sealed={1, 3, 4})
    needed = {DISKS[number][at : at + CHUNK] for number in there for at in range(0, len(DISKS[number]), CHUNK)}
    assert files(root, CHUNKS) == {f"{root}/{locate(digest_of_chunk(chunk))}" for chunk in needed}
    assert files(root, CONDEMNED) == files(root, SESSIONS) == files(root, TMP) == files(root, FORGOTTEN) == set()
    assert list((root / CONDEMNED).iterdir()) == []


def files(root: Path, folder: str) -> set[str]:
    return {str(path) for path in (root / folder).rglob("*") if path.is_file()}


def dies(root: Path, steps: int, seed: int) -> bool:
    """Whether it died at that step; what must hold then does."""
    with pytest.MonkeyPatch.context() as patch:
        time = SetForward()
        patch.setattr(directory, "datetime", time)
        return _dies(root, steps, seed, time)


def _dies(root: Path, steps: int, seed: int, time: SetForward) -> bool:
    a_repository(root, time)
    time.pass_(days=4000)
    device = Device(root)
    repository = Repository.open_in(DirectoryStore(root, Dying(device, steps)))
    died = False
    try:
        live(Repository(repository.store, repository.config, clock=time), time)
    except PowerCut:
        died = True
    device.cut(chance(seed))
    check(Repository.open(root), sealed={1, 3, 4} if died else {1, 3, 4, 5})
    finish(root, time)
    return died


def cut_everywhere(memory_path: Path, seed: int, stride: int) -> int:
    """At how many steps it was cut."""
    for number, steps in enumerate(range(seed % stride, STEPS, stride)):
        if not dies(memory_path / f"{seed}-{steps}", steps, seed):
            return number
    pytest.fail("no run came to its end")


def test_a_power_cut_harms_nothing_and_the_next_run_goes_on(memory_path: Path) -> None:
    assert cut_everywhere(memory_path, 1, STRIDE) > 15


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_at_each_step_harms_nothing(
    memory_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("cuts", cut_everywhere(memory_path, seed, 1))


def comes_back(root: Path, seed: int) -> bool:
    """Whether the power brings back a capture that was forgotten."""
    seal(Repository.init(root, chunk_bytes=CHUNK), 1, DISKS[1])
    device = Device(root)
    Repository.open_in(DirectoryStore(root, Dying(device))).forget(capture_id(1))
    device.cut(chance(seed))
    return bool(Repository.open(root).manifests())


def test_what_is_forgotten_stays_forgotten(memory_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(comes_back(memory_path / str(seed), seed) for seed in range(10))
    monkeypatch.setattr(DirectoryStore, "settle", lambda *_: None)  # the test can fail
    assert any(comes_back(memory_path / f"unsettled{seed}", seed) for seed in range(10))
