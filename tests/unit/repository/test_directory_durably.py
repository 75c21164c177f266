"""What a directory store has made durable when it says so, in folders that may not be there, under names that may be none."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.repository.errors import ObjectNotFound, RepositoryExists
from freezeframe.repository.layout import (
    CONFIG,
    DAMAGED,
    MANIFESTS,
    VERIFIED,
    damaged_name,
    folders,
    locate,
    manifest_name,
    verified_name,
)
from freezeframe.repository.store import DirectoryStore
from freezeframe.repository.store.address import create_store
from freezeframe.repository.store.staging import staging

from .power import Step, Watched
from .samples import capture_id

NAME = locate(bytes(32))
MANIFEST = manifest_name(capture_id(1))


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def root(memory_path: Path) -> Path:
    create_store(memory_path / "store")
    return memory_path / "store"


@pytest.fixture
def store(root: Path, watched: Watched) -> DirectoryStore:
    return DirectoryStore(root, watched)


def steps(watched: Watched, root: Path) -> list[tuple[str, str]]:
    """What was done, with the place in the store that it was done to."""

    def place(step: Step) -> str:
        return str((step.target or step.path).relative_to(root))

    return [(step.call, place(step)) for step in watched.log]


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_new_store_is_durable_with_all_its_folders(memory_path: Path, watched: Watched, encrypted: bool) -> None:  # noqa: FBT001
    root = memory_path / "store"
    create_store(root, watched, authenticated=encrypted)
    made = [step.path for step in watched.log if step.call == "make_folder"]
    assert made == [root, *(root / name for name in folders(authenticated=encrypted))]
    last = max(number for number, step in enumerate(watched.log) if step.call == "make_folder")
    durable = {step.path for step in watched.log[last:] if step.call == "fsync_folder"}
    assert durable == {path.parent for path in made}


def test_a_store_is_made_again_where_one_was_half_made_and_nowhere_else(memory_path: Path) -> None:
    root = memory_path / "store"
    (root / "chunks").mkdir(parents=True)
    create_store(root)
    (root / "notes").write_text("somebody's")
    with pytest.raises(RepositoryExists, match="notes is there"):
        create_store(root)


def test_an_object_is_durable_under_its_name_when_put_returns(
    store: DirectoryStore, watched: Watched, root: Path
) -> None:
    store.put(MANIFEST, BytesIO(b"{}"))
    done = steps(watched, root)
    assert [call for call, _ in done] == ["create", "write", "fsync", "rename", "fsync_folder"]
    assert done[-2:] == [("rename", MANIFEST), ("fsync_folder", MANIFESTS)]


def test_a_new_object_is_durable_under_its_name_when_it_is_the_first(
    store: DirectoryStore, watched: Watched, root: Path
) -> None:
    store.put_if_absent(MANIFEST, b"{}")
    done = steps(watched, root)
    assert [call for call, _ in done] == ["create", "write", "fsync", "link", "fsync_folder", "unlink"]
    assert done[3:5] == [("link", MANIFEST), ("fsync_folder", MANIFESTS)]


WAYS: dict[str, Callable[[DirectoryStore, str], None]] = {
    "put": lambda store, name: store.put(name, BytesIO(b"{}")),
    "put_if_absent": lambda store, name: store.put_if_absent(name, b"{}"),
    "move": lambda store, name: store.move(NAME, name),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [verified_name("00"), damaged_name(NAME)])
def test_a_folder_that_an_older_repository_lacks_is_made_and_durable(
    store: DirectoryStore, watched: Watched, root: Path, way: str, name: str
) -> None:
    store.put_many([(NAME, b"chunk")])
    for folder in (DAMAGED, VERIFIED):
        (root / folder).rmdir()
    assert list(store.names(VERIFIED)) == []
    watched.log.clear()
    WAYS[way](store, name)
    assert store.exists(name)
    done = steps(watched, root)
    folder = name.partition("/")[0]
    made, given = (
        done.index(("make_folder", folder)),
        done.index(("link" if way == "put_if_absent" else "rename", name)),
    )
    assert ("fsync_folder", ".") in done[made:given]
    watched.log.clear()
    WAYS[way if way != "move" else "put"](store, name.replace("00", "01"))
    assert "make_folder" not in [call for call, _ in steps(watched, root)]


def test_a_folder_that_is_missing_otherwise_is_an_error(store: DirectoryStore, root: Path) -> None:
    """It is a mount that has gone, and not empty."""
    (root / MANIFESTS).rmdir()
    with pytest.raises(Exception, match="manifests"):
        list(store.names(MANIFESTS))
    with pytest.raises(Exception, match="manifests"):
        list(store.entries(MANIFESTS))


def _move_away(store: DirectoryStore, name: str) -> None:
    store.move(name, NAME)


def _put_with_another(store: DirectoryStore, name: str) -> None:
    store.put_many([(CONFIG, b"{}"), (name, b"chunk")])


@pytest.mark.parametrize(
    "name", ["../outside", "chunks/../../outside", "/etc/passwd", "chunks/ab/a b", "", "chunks//ab"]
)
@pytest.mark.parametrize("way", [*WAYS, "put_many", "get", "open", "exists", "size", "delete", "move away"])
def test_what_is_no_name_is_refused_before_anything_is_touched(
    store: DirectoryStore, watched: Watched, memory_path: Path, way: str, name: str
) -> None:
    store.put_many([(NAME, b"chunk")])
    (memory_path / "outside").write_text("somebody's")
    watched.log.clear()
    ways = {**WAYS, "put_many": _put_with_another, "move away": _move_away}
    with pytest.raises(ValueError, match="is not the name of an object"):
        ways[way](store, name) if way in ways else getattr(store, way)(name)
    assert watched.log == []


def test_of_a_batch_of_many_every_object_is_durable_before_any_is_shown(
    store: DirectoryStore, watched: Watched
) -> None:
    store.put_many([(locate(bytes([number]) * 32), b"chunk") for number in range(130)])
    calls = "".join({"create": "c", "write": "w", "fsync": "f", "rename": "r"}[step.call] for step in watched.log)
    assert calls == "cw" * 64 + "f" * 64 + "r" * 64 + "cw" * 64 + "f" * 64 + "r" * 64 + "cwcwffrr"


def test_a_delete_of_what_is_gone_is_no_error_and_a_move_of_it_is(store: DirectoryStore) -> None:
    store.delete(NAME)
    with pytest.raises(ObjectNotFound):
        store.move(NAME, MANIFEST)


def test_what_a_listing_meets_that_is_no_file_is_no_object(store: DirectoryStore, root: Path) -> None:
    store.put_many([(NAME, b"chunk")])
    folder = (root / NAME).parent
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(root / NAME)
    assert list(store.names("chunks/00")) == [NAME]
    assert [entry.name for entry in store.entries("chunks/00")] == [NAME]


def test_a_batch_that_is_durable_already_is_shown_as_it_is(root: Path, watched: Watched) -> None:
    with staging(root, watched) as batch:
        batch.write_pieces(NAME, [b"a ", b"chunk"])
        batch.make_durable()
        batch.show()
    assert (root / NAME).read_bytes() == b"a chunk"
    assert [step.call for step in watched.log].count("fsync") == 1
