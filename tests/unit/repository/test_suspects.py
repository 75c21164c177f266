"""Captures that an audit has marked: durable, found by name alone, and gone with their capture."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest

from freezeframe.repository import Repository, Suspect
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.address import create_store
from freezeframe.repository.verify import verify_share

from .locked import PROTECTIONS, protected
from .samples import NOW, capture_id, disk_capture, disk_of, manifest_of, store_disk

AT = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return protected(request.param, create_store(tmp_path / "repository", authenticated=True))


def suspect(number: int, index: str, target: str = "vdb") -> Suspect:
    return Suspect(
        capture_id=capture_id(number),
        index=index,
        guest="web",
        target=target,
        found_by=capture_id(number + 1),
        found_at=NOW,
        reason="other data",
    )


def marks(repository: Repository) -> list[Path]:
    return sorted((Path(repository.address) / "verified").glob("suspect*"))


def test_a_mark_is_found_by_any_opened_later_and_of_that_disk_alone(repository: Repository) -> None:
    one, other = "ab" * 32, "cd" * 32
    repository.suspects.mark(suspect(1, one))
    assert repository.suspects.pending() == [suspect(1, one)]
    marked = repository.suspects.marked()
    assert marked.has(capture_id(1), one)
    assert not marked.has(capture_id(1), other)
    assert not marked.has(capture_id(2), one)


def test_two_disks_of_a_capture_are_marked_side_by_side_and_each_once(repository: Repository) -> None:
    for index in ("ab" * 32, "cd" * 32, "ab" * 32):
        repository.suspects.mark(suspect(1, index))
    assert len(repository.suspects.all()) == 2


def test_the_name_of_a_mark_says_nothing_in_a_repository_with_keys(repository: Repository) -> None:
    repository.suspects.mark(suspect(1, "ab" * 32))
    [mark] = marks(repository)
    data = mark.read_bytes()
    assert any(word in data for word in (b"web", b"vdb", capture_id(1).encode())) is not repository.config.encrypted
    if repository.config.authenticated:
        plain = Repository.init(mark.parent.parent.parent / "plain", chunk_bytes=4096)
        plain.suspects.mark(suspect(1, "ab" * 32))
        assert marks(plain)[0].name != mark.name


def test_a_mark_that_cannot_be_read_marks_all_the_same(repository: Repository) -> None:
    repository.suspects.mark(suspect(1, "ab" * 32))
    marks(repository)[0].write_bytes(b"{")
    assert repository.suspects.all() == []
    assert repository.suspects.marked().has(capture_id(1), "ab" * 32)


def test_a_verified_capture_is_not_pending_and_stays_marked(repository: Repository) -> None:
    repository.suspects.mark(suspect(1, "ab" * 32))
    repository.suspects.mark(suspect(2, "cd" * 32))
    assert [one.capture_id for one in repository.suspects.note_verified([capture_id(1)], AT)] == [capture_id(1)]
    assert [one.capture_id for one in repository.suspects.pending()] == [capture_id(2)]
    assert repository.suspects.marked().has(capture_id(1), "ab" * 32)
    assert repository.suspects.note_verified([capture_id(1)], AT) == []


@pytest.mark.parametrize("at_once", [True, False])
def test_the_mark_goes_with_its_capture_and_no_other(repository: Repository, *, at_once: bool) -> None:
    for number in (1, 2):
        disk = disk_of(str(number).encode())
        index = store_disk(repository, disk)
        repository.write_manifest(manifest_of(number, disk_capture(index, len(disk))))
        repository.suspects.mark(suspect(number, index))
    if at_once:
        repository.forget_all([capture_id(1)])
    else:
        repository.forget(capture_id(1))
    assert [one.capture_id for one in repository.suspects.all()] == [capture_id(2)]


def test_the_records_of_verification_are_not_read_for_marks() -> None:
    """There are 256 of them, and in object storage each is a request."""
    read: list[str] = []

    class Read(MemoryStore):
        def get(self, name: str) -> bytes:
            read.append(name)
            return super().get(name)

    repository = Repository.init_in(Read(), chunk_bytes=4096)
    index = store_disk(repository, disk_of(b"a"))
    repository.write_manifest(manifest_of(1, disk_capture(index, 4096)))
    verify_share(repository, Fraction(1, 16))
    repository.suspects.mark(suspect(1, index))
    read.clear()
    assert len(repository.suspects.pending()) == 1
    assert [name.startswith("verified/suspect") for name in read] == [True]
