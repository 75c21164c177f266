"""All temporary files lie in the directory that is configured, and an error names it and the setting."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository import Repository, marks, verify
from freezeframe.repository.check import check
from freezeframe.repository.errors import TemporaryStorageFailed
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import index_name
from freezeframe.repository.store import s3
from freezeframe.repository.store.address import open_store
from freezeframe.repository.table import SlotTable
from freezeframe.repository.temporary import check_temporary
from freezeframe.repository.verify import verify_share
from freezeframe.repository.whereabouts import places_of

from .locked import PROTECTIONS, protected
from .s3 import Answering, Reply
from .samples import CHUNK, random_disk, read_disk, seal, store_disk
from .test_temporary_storage import full

pytestmark = pytest.mark.case("D2")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configured directory. Every other one that could be taken is not there."""
    made = tmp_path / "tables"
    made.mkdir()
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)
    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", str(made))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not there"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there either"))
    return made


@pytest.fixture
def lain(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where each temporary file lies that is made, by what the kernel says."""
    found: list[Path] = []
    make = tempfile.TemporaryFile

    def made(*args: Any, **wishes: Any) -> Any:
        file = make(*args, **wishes)
        found.append(Path(f"/proc/self/fd/{file.fileno()}").readlink().parent)
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", made)
    return found


def transfers(repository: Repository) -> None:
    disk = random_disk(30)
    first = store_disk(repository, disk)
    read_disk(repository, store_disk(repository, disk[CHUNK:] + disk[:CHUNK], parent=first))


USES: dict[str, Callable[[Repository], object]] = {
    "transfers": transfers,
    "verify --all": lambda held: verify_share(held, Fraction(1)),
    "verify": lambda held: verify(held, held.manifests()),
    "repo check": check,
    "gc": lambda held: collect(held, threads=0),
    "places": lambda held: places_of(held, set(), {bytes(32)}),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("how", PROTECTIONS)
def test_temporary_files_lie_in_the_configured_directory(
    use: str, how: str, place: Path, lain: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = protected(how)
    seal(repository, 1, random_disk(40))
    monkeypatch.setattr(marks, "_BLOCK_BYTES", 64)
    lain.clear()
    USES[use](repository)
    assert set(lain) == {place}
    assert list(place.iterdir()) == []


def test_a_large_object_of_object_storage_is_copied_there(
    place: Path, lain: list[Path], answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_IN_MEMORY_BYTES", 4)
    answering_server.answer = lambda _: Reply(200, "an index")
    with open_store("s3://bucket/a").open(index_name(bytes(32))) as source:
        assert source.read() == b"an index"
    assert lain == [place]


def test_one_that_is_not_there_is_named_with_the_setting_that_says_another(place: Path) -> None:
    place.rmdir()
    for use in (check_temporary, lambda: SlotTable(1)):
        with pytest.raises(TemporaryStorageFailed, match=f"{place} failed: No such file or directory") as caught:
            use()
        assert "set FREEZEFRAME_TMP_DIR to another local directory" in caught.value.hint


def test_one_without_room_is_found_by_who_checks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_temporary()
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(TemporaryStorageFailed, match=f"{place} failed: No space left on device"):
        check_temporary()
