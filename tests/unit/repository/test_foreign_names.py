"""What others put into a repository's folders, and file systems by themselves, is nobody's business: no verb fails for it, none
touches it (R5).
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.check import check
from freezeframe.repository.errors import RepositoryExists
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import folders
from freezeframe.repository.suspects import Suspect
from freezeframe.repository.verify import verify_share
from freezeframe.repository.verify.folders import parse_share

from .locked import CHEAP, KEY_FILE, Key
from .samples import CHUNK, GUEST, capture_id, disk_of, manifest_of, read_disk, seal

pytestmark = pytest.mark.case("R5")

#: An NFS client's, editors', rsync's, a reader's, desktops', indexers'; and near misses of what the format makes.
FILES = (
    ".nfs0000000000a1b2c300000001",
    "foo.swp",
    ".foo.swp",
    ".x.AbC123",
    "README.txt",
    ".DS_Store",
    "Thumbs.db",
    f"{capture_id(1)}.json~",
    f".{capture_id(1)}.json.AbC123",
    f"{capture_id(1)} (copy).json",
    f"{'ab' * 32}.json.swp",
    f"suspect{'ab' * 32}.json~",
    f"{'AB' * 32}",
    f"{'ab' * 16}.swp",
    f"{'cd' * 31} x",
    "ff.json~",
)
FOLDERS = ("lost+found", "#recycle", ".snapshot", "@eaDir")

#: Every folder of a repository but for the hundreds that are alike, and the top.
PLACES = ["", *(name for name in folders(authenticated=True) if "/" not in name or name.endswith("/ab"))]

#: At the top of a directory that is as good as empty.
OF_THE_FILE_SYSTEM = (*FOLDERS, ".nfs0000000000a1b2c300000001", ".DS_Store", ".Trash-1000", "System Volume Information")

LONG_AGO = timedelta(days=400)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encrypted repository with two captures, a suspect and a forgotten capture, without anything foreign."""
    root = tmp_path_factory.mktemp("made") / "repository"
    repository = Repository.init(root, chunk_bytes=CHUNK, secret=KEY_FILE)
    for number in (1, 2, 3):
        index = seal(repository, number, disk_of(b"a", b"%d" % number)).guests[0].disks[0].index
        mark(repository, number, index)
    verify_share(repository, parse_share("3/256"))
    return root


def mark(repository: Repository, number: int, index: str) -> None:
    repository.suspects.mark(
        Suspect(
            capture_id=capture_id(number),
            index=index,
            guest=GUEST,
            target="vda",
            found_by=capture_id(9),
            found_at=datetime.now(UTC),
            reason="it differs",
        )
    )


@pytest.fixture
def repository(made: Path, memory_path: Path) -> Repository:
    root = memory_path / "repository"
    shutil.copytree(made, root)
    return Repository.open(root, Key(KEY_FILE))


def put_foreign(folder: Path) -> set[Path]:
    """Put all of them there, as old as anything can be."""
    placed = {folder / name for name in (*FILES, *FOLDERS)}
    for path in placed:
        if path.name in FOLDERS:
            path.mkdir()
            (path / "thumbnail.jpg").write_bytes(b"not ours")
        else:
            path.write_bytes(b"not ours")
        then = time.time() - LONG_AGO.total_seconds()
        os.utime(path, (then, then))
    return placed


def gc(repository: Repository) -> None:
    """Condemn and delete, as if nobody else were there."""
    repository.forget(capture_id(3))
    assert collect(repository, grace=timedelta(0)).condemned.objects == 2
    report = collect(repository, grace=timedelta(0))
    assert (report.captures, report.young.objects, report.waiting.objects) == (2, 0, 0)


def forget(repository: Repository) -> None:
    repository.forget(capture_id(1))
    repository.forget_all([capture_id(2)])
    assert repository.capture_ids() == [capture_id(3)]
    assert [one.capture_id for one in repository.suspects.all()] == [capture_id(3)]


def verify_all(repository: Repository) -> None:
    report = verify(repository, repository.manifests(), Tier.REHASHED, set_aside=True)
    assert (report.sound, report.chunks_checked, report.notes) == (True, 4, ())
    assert verify_share(repository, parse_share("5/256"), set_aside=True).sound


def check_it(repository: Repository) -> None:
    report = check(repository)
    assert (report.sound, report.newer) == (True, ())


def restore(repository: Repository) -> None:
    for number in (1, 2, 3):
        index = repository.manifest(capture_id(number)).guests[0].disks[0].index
        assert read_disk(repository, index) == disk_of(b"a", b"%d" % number)


def capture(repository: Repository) -> None:
    with repository.session("test", capture_id(4)):
        repository.check_writable()
        parent = repository.manifest(capture_id(3)).guests[0].disks[0].index
        with repository.disk_writer(2 * CHUNK, CHUNK, parent_index_digest=parent) as writer:
            writer.write_chunk(0, disk_of(b"d"))
            assert list(writer.slots_to_read_again()) == []
            index = writer.finish().digest
        repository.seal(manifest_of(4).model_copy(update={"guests": ()}))
    assert read_disk(repository, index) == disk_of(b"d", b"3")


def keys(repository: Repository) -> None:
    slots, found = repository.encryption
    slots.add(found, KEY_FILE, "second", CHEAP)
    listed, damaged = slots.list(found)
    assert (len(listed), damaged, slots.newer(found)) == (2, [], [])


@pytest.mark.parametrize(
    "verb", [gc, forget, verify_all, check_it, restore, capture, keys], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("place", PLACES, ids=lambda one: one.replace("/", "-") or "top")
def test_no_verb_fails_for_a_foreign_name_or_touches_what_has_it(
    repository: Repository, memory_path: Path, place: str, verb: Callable[[Repository], None]
) -> None:
    placed = put_foreign(memory_path / "repository" / place)
    verb(Repository.open(memory_path / "repository", Key(KEY_FILE)))
    assert all(path.exists() for path in placed)


@pytest.mark.parametrize("secret", [None, KEY_FILE], ids=["plain", "with keys"])
def test_a_fresh_file_system_is_as_good_as_an_empty_directory(memory_path: Path, secret: object) -> None:
    root = memory_path / "mounted"
    root.mkdir()
    for name in OF_THE_FILE_SYSTEM:
        (root / name).mkdir()
    Repository.init(root, secret=KEY_FILE if secret else None)
    assert Repository.open(root, Key(KEY_FILE if secret else None)).capture_ids() == []
    assert all((root / name).is_dir() for name in OF_THE_FILE_SYSTEM)


@pytest.mark.parametrize("name", ["README.txt", "foo.swp", "config.old", "lost+found.tar", "snapshot", "nfs1"])
def test_a_directory_with_anything_else_is_refused_by_name(memory_path: Path, name: str) -> None:
    root = memory_path / "mounted"
    root.mkdir()
    (root / name).write_bytes(b"mine")
    with pytest.raises(RepositoryExists, match=re.escape(name)):
        Repository.init(root)
    assert [path.name for path in root.iterdir()] == [name]
