"""A network file system whose server restarts: a call was made, its reply was lost, and the client's second try is refused.

Each call of the operating system that a store makes is made so, one after the other; the store does what it was asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.aside import Kind, put_back, set_aside
from freezeframe.repository.config import DEFAULT_CHUNK_BYTES
from freezeframe.repository.crypto.secret import Secret, SecretSort
from freezeframe.repository.errors import AlreadyExists, ObjectNotFound, RepositoryError
from freezeframe.repository.layout import (
    condemned_folder,
    condemned_name,
    damaged_name,
    digest_of,
    locate,
    manifest_name,
    run_name,
)
from freezeframe.repository.store import DirectoryStore
from freezeframe.repository.store.address import create_store

from .samples import capture_id, disk_of, store_disk

pytestmark = pytest.mark.case("R6")

NAME, OTHER = locate(bytes(32)), locate(b"\x01" * 32)
TO = condemned_name(capture_id(1), NAME)
MANIFEST = manifest_name(capture_id(1))

#: What a second try of each call is answered with once the first was made.
ANSWERS = {
    "open": errno.EEXIST,
    "rename": errno.ENOENT,
    "link": errno.EEXIST,
    "unlink": errno.ENOENT,
    "mkdir": errno.EEXIST,
    "rmdir": errno.ENOENT,
}


@dataclass
class Server:
    """Loses the reply to call number `lost` of those that are not the same when they are made twice."""

    lost: int | None = None
    made: list[str] = field(default_factory=list)

    def wrap(self, call: str) -> Callable[..., object]:
        real = getattr(os, call)

        def wrapped(*args: object, **named: object) -> object:
            result = real(*args, **named)
            if call == "open" and not args[1] & os.O_EXCL:  # type: ignore[operator]
                return result
            self.made.append(call)
            if len(self.made) - 1 != self.lost:
                return result
            if call == "open":
                os.close(result)
            raise OSError(ANSWERS[call], os.strerror(ANSWERS[call]), args[0])

        return wrapped


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    for call in ANSWERS:
        monkeypatch.setattr(os, call, made.wrap(call))
    return made


@pytest.fixture
def root(memory_path: Path) -> Path:
    create_store(memory_path / "store")
    store = DirectoryStore(memory_path / "store")
    store.put_many([(NAME, b"chunk")])
    return memory_path / "store"


def put(store: DirectoryStore) -> None:
    store.put(OTHER, BytesIO(b"new"))
    assert store.get(OTHER) == b"new"


def put_in_the_place_of_another(store: DirectoryStore) -> None:
    store.put(NAME, BytesIO(b"new"))
    assert store.get(NAME) == b"new"


def put_many(store: DirectoryStore) -> None:
    store.put_many([(OTHER, b"new"), (NAME, b"again")])
    assert (store.get(OTHER), store.get(NAME)) == (b"new", b"again")


def create(store: DirectoryStore) -> None:
    store.put_if_absent(MANIFEST, b"{}")
    assert store.get(MANIFEST) == b"{}"


def move(store: DirectoryStore) -> None:
    store.move(NAME, TO)
    assert (store.exists(NAME), store.get(TO)) == (False, b"chunk")


def move_and_back(store: DirectoryStore) -> None:
    store.move(NAME, TO)
    store.move(TO, NAME)
    assert (store.exists(TO), store.get(NAME)) == (False, b"chunk")


def move_into_a_folder_that_comes_late(store: DirectoryStore) -> None:
    store.move(NAME, damaged_name(NAME))
    assert (store.exists(NAME), store.get(damaged_name(NAME))) == (False, b"chunk")


def delete(store: DirectoryStore) -> None:
    store.delete(NAME)
    assert not store.exists(NAME)


def delete_what_is_condemned(store: DirectoryStore) -> None:
    store.move(NAME, TO)
    store.delete(TO)
    store.put_if_absent(run_name(capture_id(1)), b"{}")
    store.delete(run_name(capture_id(1)))
    assert not (Path(store.address) / condemned_folder(capture_id(1))).exists()


def check_writable(store: DirectoryStore) -> None:
    store.check_writable()


ACTIONS = {
    action.__name__: action
    for action in (
        put,
        put_in_the_place_of_another,
        put_many,
        create,
        move,
        move_and_back,
        move_into_a_folder_that_comes_late,
        delete,
        delete_what_is_condemned,
        check_writable,
    )
}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_call_of_a_store_whose_reply_is_lost_has_succeeded(root: Path, server: Server, action: str) -> None:
    store = _fresh(root)
    calls = _calls(server, lambda: ACTIONS[action](store))
    assert calls, "the action asks nothing of the server"
    for lost in range(len(calls)):
        server.lost = None
        store = _fresh(root)
        server.made.clear()
        server.lost = lost
        ACTIONS[action](store)
        assert lost < len(server.made)
        assert list(store.names("tmp")) == [], f"{calls[lost]} number {lost} left something in tmp/"


def _calls(server: Server, action: Callable[[], None]) -> list[str]:
    server.made.clear()
    server.lost = None
    action()
    return list(server.made)


def _fresh(root: Path) -> DirectoryStore:
    """The store with the one chunk in it, whatever an earlier try has left."""
    store = DirectoryStore(root)
    for name in (OTHER, MANIFEST, TO, damaged_name(NAME), run_name(capture_id(1))):
        store.delete(name)
    with suppress(FileNotFoundError):
        (root / "damaged").rmdir()  # one of those that a store makes when they are needed
    store.put_many([(NAME, b"chunk")])
    return store


def test_a_name_that_another_has_is_still_refused(root: Path, server: Server) -> None:
    store = DirectoryStore(root)
    store.put_if_absent(MANIFEST, b"theirs")
    with pytest.raises(AlreadyExists):
        store.put_if_absent(MANIFEST, b"theirs")
    assert store.get(MANIFEST) == b"theirs"


@pytest.mark.parametrize("has_target", [False, True])
def test_what_is_not_there_is_still_not_moved(root: Path, has_target: bool) -> None:  # noqa: FBT001
    store = DirectoryStore(root)
    if has_target:
        store.move(NAME, TO)
    else:
        store.delete(NAME)
    with pytest.raises(ObjectNotFound):
        store.move(NAME, TO)


def test_what_another_has_moved_elsewhere_in_between_is_not_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is gone, and the target is a file of somebody else's."""
    rename = os.rename

    def by_another(source: str, target: str) -> None:
        rename(source, f"{root}/{OTHER}")
        (root / TO).parent.mkdir(parents=True, exist_ok=True)
        (root / TO).write_bytes(b"another's")
        raise FileNotFoundError(errno.ENOENT, "gone", source)

    monkeypatch.setattr(os, "rename", by_another)
    with pytest.raises(ObjectNotFound):
        DirectoryStore(root).move(NAME, TO)


def test_a_file_that_was_deleted_from_tmp_is_not_taken_for_shown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By garbage collection, from a writer that stood still for longer than grace."""
    rename = os.rename

    def collected(source: str, target: str) -> None:
        Path(source).unlink()
        rename(source, target)

    monkeypatch.setattr(os, "rename", collected)
    with pytest.raises(RepositoryError, match="No such file"):
        DirectoryStore(root).put(NAME, BytesIO(b"new"))
    assert DirectoryStore(root).get(NAME) == b"chunk"


def test_a_shared_folder_has_its_mode_though_the_reply_to_mkdir_was_lost(memory_path: Path, server: Server) -> None:
    memory_path.chmod(0o2770)
    root = memory_path / "store"
    server.lost = 0
    create_store(root)
    assert server.made[0] == "mkdir"
    assert root.stat().st_mode & 0o7777 == 0o2770


def _whole_life(root: Path) -> None:
    """What a repository does with its store beside chunks: its config, key slots, sessions, manifests, what is set aside."""
    secret = Secret(SecretSort.KEY_FILE, bytes(range(32)))
    repository = Repository.init_in(
        create_store(root, authenticated=True), secret=secret, chunk_bytes=DEFAULT_CHUNK_BYTES
    )
    slots, keys = repository.encryption
    slots.add(keys, Secret(SecretSort.KEY_FILE, bytes(32)), "second")
    assert len(slots.list(keys)[0]) == 2
    with repository.session("test", capture_id(1)):
        index = digest_of(store_disk(repository, disk_of(b"a")))
    assert not set_aside(repository.objects, Kind.INDEX, index, "a mistake")  # it was sound, and is back
    put_back(repository.objects, Kind.INDEX, index, damaged_name(f"indexes/{index.hex()}"), alone=True)
    repository.index(index.hex()).close()
    assert list(repository.store.names("damaged")) == []


@pytest.mark.parametrize("call", ANSWERS)
def test_a_repository_is_made_and_lives_though_replies_are_lost(
    memory_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    calls = _calls(server, lambda: _whole_life(memory_path / "first"))
    wanted = [number for number, made in enumerate(calls) if made == call]
    # `init` makes hundreds of folders in the same way
    for lost in sorted({*wanted[:2], *wanted[-12:]}):
        server.made.clear()
        server.lost = lost
        _whole_life(memory_path / f"{call}{lost}")
