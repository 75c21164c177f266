"""A repository that has lost its config is not taken for an empty place: a new one there would collect it as garbage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.copying import create_copy
from freezeframe.repository.errors import RepositoryExists
from freezeframe.repository.layout import CONFIG, KEYS, TMP, is_object
from freezeframe.repository.store.address import create_store, open_store

from .copies import filled
from .locked import KEY, PROTECTIONS, SECRET, locked, protected
from .samples import CHUNK, capture_id


def files(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*") if one.is_file()}


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_nothing_new_is_made_where_a_repository_has_lost_its_config(tmp_path: Path, protection: str) -> None:
    root = tmp_path / "repository"
    made = protected(protection, create_store(root, authenticated=protection != "plain"))
    filled(made)
    config = (root / CONFIG).read_bytes()
    (root / CONFIG).unlink()
    before = files(root)
    attempts: list[Callable[[], object]] = [
        lambda: Repository.init(root, chunk_bytes=CHUNK),
        lambda: Repository.init(root, chunk_bytes=CHUNK, secret=SECRET),
        lambda: create_copy(create_store(root, authenticated=True), made),
    ]
    for attempt in attempts:
        with pytest.raises(RepositoryExists, match="has lost its config") as refused:
            attempt()
        assert "Bring back `config`" in refused.value.hint
    assert files(root) == before
    (root / CONFIG).write_bytes(config)
    found = Repository.open(root, KEY if made.keys else KEY.__class__(None))
    assert found.capture_ids() == [capture_id(number) for number in (3, 2, 1)]


def test_one_object_of_any_kind_is_enough(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    repository = Repository.init(root, chunk_bytes=CHUNK)
    filled(repository)
    repository.forget(capture_id(1))
    kinds = {name.partition("/")[0]: name for name in files(root) if is_object(name) and name != CONFIG}
    assert len(kinds) >= 6
    for number, name in enumerate(kinds.values()):
        left = tmp_path / str(number)
        shutil.copytree(root, left)
        for one in files(left):
            if one != name:
                (left / one).unlink()
        with pytest.raises(RepositoryExists, match=name):
            Repository.init(left)


def test_what_a_crash_leaves_before_the_config_and_foreign_files_are_no_such_thing(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    locked(create_store(root, authenticated=True))
    (root / CONFIG).unlink()
    (root / TMP / "0123456789abcdef0123456789abcdef").write_bytes(b"")
    (root / "manifests" / ".nfs0001").write_bytes(b"")
    assert list((root / KEYS).iterdir())
    assert Repository.init(root, chunk_bytes=CHUNK, secret=SECRET).capture_ids() == []


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_nor_in_a_bucket(s3_address: str, protection: str) -> None:
    made = protected(protection, create_store(s3_address, authenticated=protection != "plain"))
    filled(made)
    store = open_store(s3_address)
    store.delete(CONFIG)
    with pytest.raises(RepositoryExists, match="has lost its config"):
        Repository.init(s3_address, chunk_bytes=CHUNK)
    for name in [*store.names("manifests"), *store.names("sessions")]:
        store.delete(name)
    with pytest.raises(RepositoryExists, match="chunks/"):
        create_copy(create_store(s3_address), made)
