"""Links, folders and FIFOs that have an object's name: a link to a file is the object, the others are unreadable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.repository import Repository, aside, verify
from freezeframe.repository.check import check
from freezeframe.repository.errors import ManifestUnreadable, ObjectNotFound, RepositoryError, RepositoryNotReadable
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import (
    condemned_name,
    damaged_name,
    forgotten_name,
    index_name,
    is_object,
    locate,
    manifest_name,
    session_name,
)
from freezeframe.repository.store import DirectoryStore

from .samples import CHUNK, capture_id, disk_of, read_disk, seal, store_disk

pytestmark = pytest.mark.case("R3")

NO_GRACE = timedelta(0)


@pytest.fixture
def root(memory_path: Path) -> Path:
    return memory_path / "repository"


@pytest.fixture
def repository(root: Path) -> Repository:
    """Two captures, one that is forgotten and condemned, and a session."""
    made = Repository.init(root, chunk_bytes=CHUNK)
    for number in (1, 2, 3):
        seal(made, number, disk_of(b"a", b"%d" % number))
    made.forget(capture_id(3))
    collect(made)
    made.sessions.begin(capture_id(4), "test")
    return made


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


STRAYS: dict[str, Callable[[Path], None]] = {"link": dangling, "folder": Path.mkdir, "fifo": os.mkfifo}


def elsewhere(path: Path, outside: Path, *, relative: bool = False) -> None:
    """Put a file elsewhere, with a link in its place."""
    outside.mkdir(exist_ok=True)
    moved = outside / path.name
    shutil.move(path, moved)
    path.symlink_to(os.path.relpath(moved, path.parent) if relative else moved)


def in_place(root: Path, kind: str) -> Path:
    """Return an object of that kind which is there."""
    patterns = {
        "manifest": f"manifests/{capture_id(1)}.json",
        "forgotten": "condemned/*/manifests/*.json",
        "session": "sessions/*.json",
        "run": "condemned/*.json",
        "tombstone": "lineage/*.json",
    }
    return next(root.glob(patterns[kind]))


def everything(repository: Repository) -> None:
    for number in (1, 2):
        index = repository.manifest(capture_id(number)).guests[0].disks[0].index
        assert read_disk(repository, index) == disk_of(b"a", b"%d" % number)


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_repository_of_links_to_files_is_whole(root: Path, repository: Repository, *, relative: bool) -> None:
    """As tools leave it that move files elsewhere, or find equal ones."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        elsewhere(path, root.parent / "elsewhere", relative=relative)
    assert repository.capture_ids() == [capture_id(2), capture_id(1)]
    report = check(repository)
    assert (report.sound, report.unreadable, report.garbage.strange) == (True, (), [])
    assert verify(repository, repository.manifests()).sound
    collected = collect(repository)
    assert (collected.captures, len(collected.sessions)) == (2, 1)
    everything(repository)


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_garbage_collection_deletes_nothing_of_a_capture_whose_manifest_is_a_link(
    root: Path, repository: Repository, *, relative: bool
) -> None:
    elsewhere(root / manifest_name(capture_id(1)), root.parent / "elsewhere", relative=relative)
    repository.sessions.end(capture_id(4), sealed=False)
    assert collect(repository, grace=NO_GRACE).captures == 2
    collect(repository, grace=NO_GRACE)
    everything(repository)


def test_a_link_that_is_relative_leads_to_its_file_wherever_it_is_moved(root: Path, repository: Repository) -> None:
    data, name = b"chunk", locate(bytes(32))
    repository.store.put_many([(name, data)])
    elsewhere(root / name, root.parent / "elsewhere", relative=True)
    places = [condemned_name(capture_id(9), name), damaged_name(name), name]
    for before, place in zip([name, *places], places, strict=False):
        repository.store.move(before, place)
        assert repository.store.get(place) == data
        assert not os.path.lexists(root / before)
    assert list((root / "tmp").iterdir()) == []


@pytest.mark.parametrize("sort", STRAYS)
@pytest.mark.parametrize("kind", ["manifest", "forgotten", "session", "run"])
def test_what_is_no_file_stops_garbage_collection_and_is_named(
    root: Path, repository: Repository, kind: str, sort: str
) -> None:
    path = in_place(root, kind)
    path.unlink()
    STRAYS[sort](path)
    before = sorted(root.rglob("*"))
    with pytest.raises(RepositoryNotReadable, match=path.name):
        collect(repository, grace=NO_GRACE)
    assert sorted(root.rglob("*")) == before
    if kind != "forgotten":  # which no reader needs
        assert any(path.name in one for one in check(repository).unreadable)


@pytest.mark.parametrize("sort", STRAYS)
def test_a_manifest_that_is_no_file_is_unreadable_and_others_are_listed(
    root: Path, repository: Repository, sort: str
) -> None:
    path = root / manifest_name(capture_id(1))
    path.unlink()
    STRAYS[sort](path)
    unreadable: list[ManifestUnreadable] = []
    assert [one.capture_id for one in repository.manifests(unreadable.append)] == [capture_id(2)]
    assert [isinstance(one, RepositoryNotReadable) for one in unreadable] == [True]
    with pytest.raises(RepositoryNotReadable):
        repository.is_sealed(capture_id(1))
    with pytest.raises(RepositoryNotReadable):
        repository.forget(capture_id(1))


@pytest.mark.parametrize("sort", STRAYS)
@pytest.mark.parametrize("referred", [True, False], ids=["referred to", "garbage"])
@pytest.mark.parametrize("kind", ["chunks", "indexes"])
def test_a_chunk_or_an_index_that_is_no_file_stops_deletion_and_is_named(
    root: Path, repository: Repository, kind: str, sort: str, *, referred: bool
) -> None:
    repository.sessions.end(capture_id(4), sealed=False)
    path = next((root / kind).glob("*/*"))
    if referred:
        path.unlink()
    else:
        path = root / (locate(b"\1" * 32) if kind == "chunks" else index_name(b"\1" * 32))
    STRAYS[sort](path)
    for _ in range(2):
        with pytest.raises(RepositoryNotReadable, match=path.name):
            collect(repository, grace=NO_GRACE)
    assert os.path.lexists(path)
    report = check(repository)
    told = [*report.unreadable, *(one.reason for one in report.indexes)]
    assert any(path.name in one for one in told)


def test_a_writer_stores_a_chunk_anew_in_place_of_a_link_to_nothing(root: Path, repository: Repository) -> None:
    disk = disk_of(b"a", b"1")
    parent = repository.manifest(capture_id(1)).guests[0].disks[0].index
    for path in (root / "chunks").glob("*/*"):
        path.unlink()
        dangling(path)
    with repository.disk_writer(len(disk), CHUNK, parent_index_digest=parent) as writer:
        for slot in writer.slots_to_read_again():
            writer.write_chunk(slot, disk[slot * CHUNK : (slot + 1) * CHUNK])
        index = writer.finish().digest
    assert read_disk(repository, index) == disk
    assert read_disk(repository, store_disk(repository, disk_of(b"2"))) == disk_of(b"2")


@pytest.mark.parametrize("sort", STRAYS)
def test_a_damaged_chunk_is_set_aside_beside_what_is_no_file(root: Path, repository: Repository, sort: str) -> None:
    path = next((root / "chunks").glob("*/*"))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    STRAYS[sort](root / "damaged" / path.name)
    report = verify(repository, repository.manifests(), set_aside=True)
    assert [one.set_aside for one in report.chunks] == [True]
    assert not path.exists()
    assert len(list((root / "damaged").glob(f"{path.name}G*"))) == 1


@pytest.mark.parametrize("sort", STRAYS)
def test_what_is_set_aside_is_left_there_while_its_name_has_what_is_no_file(
    root: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    with repository.index(repository.manifest(capture_id(1)).guests[0].disks[0].index) as index:
        digest = next(digest for _, digest in index.used_slots())
    with monkeypatch.context() as patch:
        patch.setattr(aside, "look_aside", lambda *_: aside.Verdict.DAMAGED)
        assert aside.set_aside(repository.objects, aside.Kind.CHUNK, digest, "a machine with bad memory said so")
    path = root / locate(digest)
    STRAYS[sort](path)
    assert not verify(repository, repository.manifests(), set_aside=True).sound
    assert (root / "damaged" / path.name).is_file()
    everything(repository)


@pytest.mark.parametrize("folder", ["lineage", "damaged", "verified"])
def test_a_folder_that_is_a_link_to_nothing_is_not_one_that_no_writer_has_needed(
    root: Path, repository: Repository, folder: str
) -> None:
    shutil.rmtree(root / folder)
    assert list(repository.store.names(folder)) == []
    dangling(root / folder)
    for listing in (repository.store.names, repository.store.entries):
        with pytest.raises(RepositoryNotReadable, match=folder):
            list(listing(folder))


def test_what_lies_behind_a_link_to_nothing_is_not_absent(root: Path, repository: Repository) -> None:
    [run] = [path for path in (root / "condemned").iterdir() if path.is_dir()]
    [manifest] = run.glob("manifests/*")
    name = f"manifests/{manifest.name}"
    shutil.rmtree(run)
    dangling(run)
    place = condemned_name(run.name, name)
    for ask in (repository.store.get, repository.store.exists, repository.store.size):
        with pytest.raises(RepositoryNotReadable, match=run.name):
            ask(place)
    with pytest.raises(RepositoryNotReadable, match=run.name):
        list(repository.store.entries(place.rpartition("/")[0]))
    with pytest.raises(RepositoryNotReadable):
        collect(repository)
    with pytest.raises(ObjectNotFound):
        repository.store.get(condemned_name(capture_id(8), name))


def test_a_link_is_as_old_as_the_younger_of_it_and_its_file(root: Path, repository: Repository) -> None:
    path = root / session_name(capture_id(4))
    then = repository.store.modified(session_name(capture_id(4))).timestamp() - 1e6
    os.utime(path, (then, then))
    elsewhere(path, root.parent / "elsewhere")
    [entry] = repository.store.entries("sessions")
    assert entry.modified == datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    assert entry.size == path.stat().st_size


@pytest.mark.parametrize("sort", STRAYS)
def test_a_foreign_name_is_foreign_whatever_has_it(root: Path, repository: Repository, sort: str) -> None:
    for folder in ("manifests", "sessions", "condemned", "chunks/ab", "tmp", "lineage", "damaged"):
        STRAYS[sort](root / folder / "foreign.json")
    STRAYS[sort](root / "tmp" / ("ab" * 16))  # nobody's yet
    assert check(repository).unreadable == ()
    assert collect(repository).captures == 2


@pytest.mark.parametrize("name", ["get", "open", "exists"])
@pytest.mark.parametrize("sort", STRAYS)
def test_no_read_takes_what_is_no_file_for_an_object_or_waits_for_it(root: Path, sort: str, name: str) -> None:
    root.mkdir()
    STRAYS[sort](root / "config")
    store = DirectoryStore(root)
    store.drop_cached("config")
    with pytest.raises(RepositoryError) as caught:
        getattr(store, name)("config")
    assert isinstance(caught.value, RepositoryNotReadable)


def test_every_name_that_is_made_is_an_objects(root: Path, repository: Repository) -> None:
    repository.store.move(manifest_name(capture_id(1)), forgotten_name(manifest_name(capture_id(1))))
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    assert {name.split("/")[0] for name in names} >= {
        "chunks",
        "condemned",
        "config",
        "forgotten",
        "sessions",
        "lineage",
    }
    assert [name for name in names if not is_object(name)] == []
