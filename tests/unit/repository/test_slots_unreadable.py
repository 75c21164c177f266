"""Key slots that cannot be read: they do not count as absent, and one of several keeps nobody out."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.check import check
from freezeframe.repository.config import Config
from freezeframe.repository.errors import (
    ConfigChanged,
    KeySlotNotFound,
    LastKeySlot,
    RepositoryNotReadable,
    WrongKey,
)
from freezeframe.repository.layout import key_slot_name
from freezeframe.repository.store import DirectoryStore, MemoryStore
from freezeframe.repository.store.filesystem import Filesystem, StrPath

from .locked import CHEAP, KEY, Key, locked, locked_at
from .samples import CHUNK, disk_of, seal
from .test_key_slots import OTHER

pytestmark = pytest.mark.case("R1")

NOBODY = Key(None)


class BadFiles(Filesystem):
    """A file system of which some files cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: set[Path] = set()

    def open(self, path: StrPath) -> io.RawIOBase:
        if Path(path) in self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return super().open(path)


def with_second(root: Path) -> tuple[Repository, list[Path]]:
    """An encrypted repository of two slots, and where they are: the first's, the second's."""
    repository = locked_at(root)
    slots, keys = repository.encryption
    first = slots.find(keys, "first").slot_id
    second = slots.add(keys, OTHER, "second", CHEAP)
    return repository, [root / key_slot_name(one) for one in (first, second)]


def taken_away(root: Path) -> None:
    """Write a config with the same id and no encryption, as an attacker who can write to the store."""
    (root / "config").write_bytes(Config(id=Repository.open(root, KEY).config.id, chunk_bytes=CHUNK).to_json())


def unlisted(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Let the listing of a folder fail."""
    scandir: Callable[..., Any] = os.scandir

    def failing(path: Any = ".") -> Any:
        if Path(path) == folder:
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", failing)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTDIR])
def test_a_plain_config_is_not_believed_while_the_slots_cannot_be_listed(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    locked_at(root)
    taken_away(root)
    unlisted(monkeypatch, root / "keys", number)
    with pytest.raises(RepositoryNotReadable, match=f"whether there are key slots .*{root}/keys"):
        Repository.open(root, NOBODY)


def test_a_mount_that_goes_after_the_config_was_read_has_no_slots_to_show(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked_at(root)
    taken_away(root)
    scandir: Callable[..., Any] = os.scandir

    def gone(path: Any = ".") -> Any:
        if Path(path) == root / "keys" and root.exists():
            root.rename(root.with_name("elsewhere"))
        return scandir(path)

    monkeypatch.setattr("os.scandir", gone)
    with pytest.raises(RepositoryNotReadable, match="whether there are key slots"):
        Repository.open(root, NOBODY)


def test_a_plain_config_is_not_believed_while_a_slot_cannot_be_read(root: Path) -> None:
    _, places = with_second(root)
    taken_away(root)
    files = BadFiles()
    for bad, error in ((places[:1], ConfigChanged), (places[1:], ConfigChanged), (places, RepositoryNotReadable)):
        files.bad = set(bad)
        with pytest.raises(error):
            Repository.open_in(DirectoryStore(root, files), NOBODY)


def test_a_plain_config_beside_damaged_slots_is_not_believed(root: Path) -> None:
    _, places = with_second(root)
    taken_away(root)
    for place in places:
        place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(ConfigChanged):
        Repository.open(root, NOBODY)


def test_a_plain_repository_has_no_folder_of_slots_or_an_empty_one(root: Path) -> None:
    repository = Repository.init(root, chunk_bytes=CHUNK)
    assert not (root / "keys").exists()
    assert Repository.open(root, NOBODY).config.id == repository.config.id
    (root / "keys").mkdir()
    assert Repository.open(root, NOBODY).config.id == repository.config.id
    (root / "keys" / ".nfs0001").touch()
    assert Repository.open(root, NOBODY).config.id == repository.config.id
    (root / "keys" / ".nfs0001").unlink()
    (root / "keys").rmdir()
    (root / "keys").touch()
    with pytest.raises(RepositoryNotReadable):
        Repository.open(root, NOBODY)


def test_one_slot_that_cannot_be_read_keeps_nobody_else_out(root: Path) -> None:
    _, places = with_second(root)
    files = BadFiles()
    store = DirectoryStore(root, files)
    for bad, opens, not_this in ((places[0], Key(OTHER), KEY), (places[1], KEY, Key(OTHER))):
        files.bad = {bad}
        seal(Repository.open_in(store, opens), 1, disk_of(b"a"))
        with pytest.raises(RepositoryNotReadable, match=bad.name):
            Repository.open_in(store, not_this)
    files.bad = set()
    for key in (KEY, Key(OTHER)):
        assert len(Repository.open_in(store, key).manifests()) == 1


def test_a_slot_that_cannot_be_read_is_told_and_is_none_that_could_be_left(root: Path) -> None:
    _, (first, second) = with_second(root)
    files = BadFiles()
    files.bad = {second}
    opened = Repository.open_in(DirectoryStore(root, files), KEY)
    slots, keys = opened.encryption
    infos, damaged = slots.list(keys)
    assert ([info.label for info in infos], damaged) == (["first"], [])
    assert [second.name in one for one in slots.unreadable()] == [True]
    found = check(opened)
    assert (found.key_slots, [second.name in one for one in found.unreadable]) == ((), [True])
    with pytest.raises(RepositoryNotReadable, match=f"'second' .*{second.name}"):
        slots.find(keys, "second")
    with pytest.raises(LastKeySlot):
        slots.remove(keys, first.stem)
    assert first.exists()
    files.bad = set()
    with pytest.raises(KeySlotNotFound):
        slots.find(keys, "third")


def test_a_storage_that_is_away_is_not_asked_for_each_slot() -> None:
    """Each answer may take hours of patience."""
    asked: list[str] = []

    class Away(MemoryStore):
        def get(self, name: str) -> bytes:
            if is_away and name.startswith("keys/"):
                asked.append(name)
                raise RepositoryNotReadable(f"Reading {name} failed.", transient=True)
            return super().get(name)

    is_away = False
    store = Away()
    slots, keys = locked(store).encryption
    slots.add(keys, OTHER, "second", CHEAP)
    with pytest.raises(WrongKey):
        Repository.open_in(store, Key(type(OTHER).passphrase("a third")))
    is_away = True
    with pytest.raises(RepositoryNotReadable) as away:
        Repository.open_in(store, KEY)
    assert (away.value.transient, len(asked)) == (True, 1)
