from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.errors import EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_REPOSITORY, FreezeframeError
from freezeframe.repository import Repository, errors
from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.layout import LATE_FOLDERS
from freezeframe.repository.store import DirectoryStore, MemoryStore

from .samples import CHUNK


def test_what_is_made_is_opened(root: Path) -> None:
    made = Repository.init(root)
    for address in (root, str(root), f"file://{root}"):
        opened = Repository.open(address)
        assert opened.config == made.config
        assert opened.address == str(root)


def test_a_repository_is_made_once(repository: Repository, root: Path) -> None:
    with pytest.raises(errors.RepositoryExists):
        Repository.init(root)
    assert Repository.open(root).config == repository.config


def test_an_empty_directory_may_become_one(tmp_path: Path) -> None:
    Repository.init(tmp_path)


def test_a_directory_with_something_else_may_not(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(errors.RepositoryExists, match="letters"):
        Repository.init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_parent_that_is_missing_is_not_made(tmp_path: Path) -> None:
    """It would be the directory below a mount that is not there."""
    with pytest.raises(errors.RepositoryNotWritable, match="gone"):
        Repository.init(tmp_path / "gone" / "repository")
    assert not (tmp_path / "gone").exists()


def test_a_file_is_no_repository(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(errors.RepositoryNotFound):
        Repository.open(path)
    with pytest.raises(errors.RepositoryNotWritable):
        Repository.init(path)


@pytest.mark.parametrize("address", ["gs://bucket/x", "file://otherhost/x", "ftp://x/y"])
def test_an_address_of_another_kind_is_refused_by_name(address: str) -> None:
    with pytest.raises(errors.RepositoryUnsupported, match=address):
        Repository.open(address)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(errors.RepositoryNotFound, match=str(path)):
            Repository.open(path)


@pytest.mark.parametrize("chunk_bytes", [0, 1000, 2048, 32 << 20])
def test_a_chunk_size_that_cannot_be_is_refused(chunk_bytes: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Repository.init_in(MemoryStore(), chunk_bytes=chunk_bytes)


def test_space_is_checked(repository: Repository) -> None:
    repository.check_space(1)
    with pytest.raises(errors.RepositoryFull, match="free"):
        repository.check_space(1 << 60)
    Repository.init_in(MemoryStore()).check_space(1 << 60)  # nobody can say


def test_a_repository_without_its_folders_is_not_writable(repository: Repository, root: Path) -> None:
    repository.check_writable()
    (root / "tmp").rmdir()
    with pytest.raises(errors.RepositoryNotWritable, match="tmp"):
        repository.check_writable()


@pytest.mark.parametrize(
    "name", ["../config", "/etc/passwd", "chunks/../config", "chunks//x", "", "chunks/ab/..", "a\n"]
)
def test_no_name_leaves_the_store(root: Path, repository: Repository, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        DirectoryStore(root).get(name)


def test_every_error_has_a_code_of_its_own_and_says_how_it_ends() -> None:
    classes = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.RepositoryError)
    ]
    codes = [one.code for one in classes]
    assert len(set(codes)) == len(codes) > 10
    for one in classes:
        assert one.exit_code in {EXIT_REPOSITORY, EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED}
        assert (one.exit_code == EXIT_DAMAGED) == issubclass(one, errors.RepositoryDamaged)
    assert issubclass(errors.RepositoryError, FreezeframeError)


def test_a_default_chunk_size_is_the_repositorys(repository: Repository) -> None:
    with repository.disk_writer(10) as writer:
        assert writer.finish().chunk_bytes == CHUNK


@pytest.mark.parametrize("folder", sorted(LATE_FOLDERS))
def test_a_folder_that_older_repositories_lack_is_made_by_whoever_first_needs_it(
    root: Path, repository: Repository, folder: str
) -> None:
    (root / folder).rmdir()
    assert list(repository.store.names(folder)) == []
    assert list(repository.store.entries(folder)) == []
    repository.store.put_if_absent(f"{folder}/{bytes(32).hex()}.json", b"{}")
    assert len(list(repository.store.names(folder))) == 1


def test_a_missing_folder_of_chunks_is_no_empty_one(root: Path, repository: Repository) -> None:
    (root / "chunks" / "00").rmdir()
    with pytest.raises(RepositoryNotReadable):
        list(repository.store.names("chunks/00"))
