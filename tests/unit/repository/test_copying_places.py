"""Copies from and into directories and object storage; and the power is cut at any step of one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.copying import copy, create_copy, open_copy
from freezeframe.repository.errors import RepositoryNotFound
from freezeframe.repository.layout import CHUNKS, TMP
from freezeframe.repository.store import DirectoryStore
from freezeframe.repository.store.address import create_store, open_store

from .copies import DISKS, check_copy, copied, filled
from .copies import capture as seal_capture
from .power import Device, Dying, PowerCut
from .samples import CHUNK, disk_of
from .test_crash import chance

#: Every how manieth step is cut at, usually; a long run cuts at each, many times.
STRIDE = 9


def made_at(place: str, source: Repository) -> Repository:
    """Return the copy at an address, which is made there if there is none."""
    try:
        there: Repository | None = open_copy(open_store(place), source)
    except RepositoryNotFound:
        there = None
    copy(source, there, lambda: create_copy(create_store(place), source))
    return open_copy(open_store(place), source)


def copied_twice(at: str, to: str) -> None:
    source = Repository.init(at, chunk_bytes=CHUNK)
    filled(source)
    check_copy(made_at(to, source), {1, 2, 3})
    seal_capture(source, 4, disk_of(b"z", b"c", b"f"))
    check_copy(made_at(to, source), {1, 2, 3, 4}, {**DISKS, 4: disk_of(b"z", b"c", b"f")})


def test_from_a_directory_into_a_directory(tmp_path: Path) -> None:
    copied_twice(str(tmp_path / "a"), str(tmp_path / "b"))
    assert not list((tmp_path / "b" / TMP).iterdir())
    names = [{str(path.relative_to(root)) for path in root.rglob("*")} for root in (tmp_path / "a", tmp_path / "b")]
    assert {one for one in names[0] if one.startswith(CHUNKS)} == {one for one in names[1] if one.startswith(CHUNKS)}


def test_from_a_directory_into_a_bucket(tmp_path: Path, s3_address: str) -> None:
    copied_twice(str(tmp_path / "a"), s3_address)


def test_from_a_bucket_into_a_directory(tmp_path: Path, s3_address: str) -> None:
    copied_twice(s3_address, str(tmp_path / "b"))


def test_from_a_bucket_into_a_bucket(s3_address: str) -> None:
    copied_twice(f"{s3_address}/a", f"{s3_address}/b")


def dies(root: Path, source: Repository, steps: int, seed: int) -> bool:
    """Return True if the power went off at that step of a copy; what must hold then does."""
    device = Device(root)
    died = False
    create_store(root)
    try:
        copied(source, DirectoryStore(root, Dying(device, steps)), threads=0)
    except PowerCut:
        died = True
    device.cut(chance(seed))
    if (root / "config").exists():
        there = open_copy(DirectoryStore(root), source)
        found = {int(one[4:]) for one in there.capture_ids()}
        assert found in ({*()}, {1}, {1, 2}, {1, 2, 3}) if died else found == {1, 2, 3}
        check_copy(there, found)
    assert copied(source, DirectoryStore(root)).whole
    check_copy(open_copy(DirectoryStore(root), source), {1, 2, 3})
    return died


def cut_everywhere(memory_path: Path, seed: int, stride: int) -> int:
    """Return at how many steps it was cut."""
    source = Repository.init(memory_path / "source", chunk_bytes=CHUNK)
    filled(source)
    for number, steps in enumerate(count(seed % stride, stride)):
        if not dies(memory_path / f"{steps}", source, steps, seed):
            return number
    raise AssertionError


def test_a_power_cut_harms_no_copy_and_the_next_goes_on(memory_path: Path) -> None:
    assert cut_everywhere(memory_path, 1, STRIDE) > 10


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_at_each_step_harms_no_copy(
    memory_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("cuts", cut_everywhere(memory_path, seed, 1))
