"""The order of fsync and rename, asserted through the file system seam."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.errors import AlreadyExists
from freezeframe.repository.layout import folders
from freezeframe.repository.store import DirectoryStore
from freezeframe.repository.store.address import create_store

from .power import Step, Watched
from .samples import CHUNK, disk_capture, disk_of, manifest_of, random_disk, read_disk, seal, store_disk, write


@pytest.fixture
def watched(repository: Repository, root: Path) -> Watched:
    return Watched()


def shown(log: list[Step], kind: str) -> list[int]:
    """Where in the log an object of that kind gets its final name."""
    return [
        at
        for at, step in enumerate(log)
        if step.call in {"rename", "link"} and step.target and kind in str(step.target)
    ]


def test_bytes_are_durable_before_a_name_is_given_and_the_name_after(root: Path, watched: Watched) -> None:
    seal(Repository.open_in(DirectoryStore(root, watched)), 1, random_disk(200))
    log = watched.log
    assert len(shown(log, "/chunks/")) == 200
    for at, step in enumerate(log):
        if step.call in {"rename", "link"}:
            assert step.target is not None
            assert Step("fsync", step.path) in log[:at]
            assert all(one.call != "write" or one.path != step.path for one in log[at:])
            assert Step("fsync_folder", step.target.parent) in log[at:]


def test_chunks_are_settled_before_the_index_and_the_index_before_the_manifest(root: Path, watched: Watched) -> None:
    seal(Repository.open_in(DirectoryStore(root, watched)), 1, random_disk(200))
    log = watched.log
    (index,), (manifest,) = shown(log, "/indexes/"), shown(log, "/manifests/")
    for at in shown(log, "/chunks/"):
        target = log[at].target
        assert target is not None
        assert Step("fsync_folder", target.parent) in log[at:index]
    target = log[index].target
    assert target is not None
    assert Step("fsync_folder", target.parent) in log[index:manifest]
    assert log[manifest + 1].call == "fsync_folder"


def test_a_chunk_of_another_writer_is_settled_before_an_index_refers_to_it(
    repository: Repository, root: Path, watched: Watched
) -> None:
    disk = random_disk(20)
    store_disk(repository, disk)
    other = Repository.open_in(DirectoryStore(root, watched))
    with other.disk_writer(len(disk) + CHUNK, CHUNK) as writer:  # one hole more: another index
        for slot in range(20):
            writer.write_chunk(slot, disk[slot * CHUNK : (slot + 1) * CHUNK])
        receipt = writer.finish()
    assert (receipt.chunks_new, receipt.chunks_known) == (0, 20)
    (index,) = shown(watched.log, "/indexes/")
    with repository.index(receipt.digest) as stored:
        for _, digest in stored.used_slots():
            assert Step("fsync_folder", root / "chunks" / digest.hex()[:2]) in watched.log[:index]


def test_folders_are_fsynced_once_a_disk(root: Path, watched: Watched, repository: Repository) -> None:
    with Repository.open_in(DirectoryStore(root, watched)).disk_writer(600 * CHUNK, CHUNK) as writer:
        write(writer, random_disk(600))
    folders = [step.path for step in watched.log if step.call == "fsync_folder" and step.path.parent.name == "chunks"]
    assert len(folders) == len(set(folders)) == len({path.parent for path in (root / "chunks").glob("*/*")})
    assert [step.call for step in watched.log].count("fsync") == 601


def test_what_is_put_alone_is_settled(root: Path, watched: Watched, repository: Repository) -> None:
    DirectoryStore(root, watched).put("sessions/x.json", BytesIO(b"x"))
    assert [step.call for step in watched.log][-2:] == ["rename", "fsync_folder"]
    assert watched.log[-1].path == root / "sessions"


def test_a_repository_is_durable_before_it_has_a_config(root: Path) -> None:
    watched = Watched()
    Repository.init_in(create_store(root, watched), chunk_bytes=CHUNK)
    (config,) = shown(watched.log, "/config")
    made = [step.path for step in watched.log if step.call == "make_folder"]
    assert len(made) == 1 + len(folders(authenticated=False))
    for folder in made:
        assert Step("fsync_folder", folder.parent) in watched.log[:config]


def test_sealing_twice_settles_what_the_first_may_have_left(
    root: Path, watched: Watched, repository: Repository
) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    Repository.open_in(DirectoryStore(root, watched)).write_manifest(manifest)
    assert watched.log[-1] == Step("fsync_folder", root / "manifests")
    assert read_disk(repository, manifest.guests[0].disks[0].index) == disk_of(b"a")


def test_a_different_manifest_of_the_same_id_is_refused(repository: Repository) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    other = manifest_of(1, disk_capture(store_disk(repository, disk_of(b"b")), CHUNK))
    with pytest.raises(AlreadyExists):
        repository.write_manifest(other)
    assert repository.manifest("latest") == manifest
