"""The verbs on one side document that cannot be read: each goes on, and says so. No capture needs it.

a mark of a suspect    its disk counts as suspect
a record               its folder counts as never verified
a document of damaged/ decides nothing about what is set aside
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.errors import EXIT_REPOSITORY
from freezeframe.repository import Repository, Suspect
from freezeframe.repository.aside import Kind, set_aside
from freezeframe.repository.document import checked
from freezeframe.repository.layout import OBJECT_BYTES_MAX
from freezeframe.repository.store.filesystem import Filesystem

from .manifests import NOW, capture_id, manifest_of
from .run import Run

pytestmark = pytest.mark.case("R3")

KINDS = {
    "mark": "verified/suspect*.json",
    "folder": "verified/7f.json",
    "indexes": "verified/indexes.json",
    "restored": "verified/restored.json",
    "aside": "damaged/*.json",
}


class Refusing:
    """A storage that refuses what has one of these words in its path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.words: list[str] = []
        self.number = errno.EACCES
        real = Filesystem.open

        def give(filesystem: Filesystem, path: Path) -> io.RawIOBase:
            if any(word in str(path) for word in self.words):
                raise OSError(self.number, os.strerror(self.number), str(path))
            return real(filesystem, path)

        monkeypatch.setattr(Filesystem, "open", give)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(monkeypatch)


def refused(number: int) -> Callable[[Path, Refusing], None]:
    def trouble(path: Path, refusing: Refusing) -> None:
        refusing.words.append(path.name)
        refusing.number = number

    return trouble


def too_long(path: Path, refusing: Refusing) -> None:
    path.chmod(0o600)
    os.truncate(path, OBJECT_BYTES_MAX + 1)


def newer(path: Path, refusing: Refusing) -> None:
    path.chmod(0o600)
    path.write_bytes(checked({"format": 2, "more": 1}))


def link(path: Path, refusing: Refusing) -> None:
    path.unlink()
    path.symlink_to(path.parent / "elsewhere")


TROUBLES = {
    "EACCES": refused(errno.EACCES),
    "EIO": refused(errno.EIO),
    "too long": too_long,
    "newer": newer,
    "link to nothing": link,
}
UNREADABLE = {"EACCES", "EIO", "link to nothing"}

#: The documents that each verb reads, and so names; others it may name. `verify --all` writes records anew, so it comes late.
VERBS: dict[tuple[str, ...], set[str]] = {
    ("captures",): {"mark"},
    ("captures", "show", capture_id(1)): {"mark"},
    ("captures", "show", capture_id(2)): set(),
    ("repo", "info"): {"folder", "indexes", "restored"},
    ("repo", "check"): {"aside"},
    ("verify", "--status"): set(KINDS),
    ("gc",): set(),
    ("verify", capture_id(1)): {"mark", "aside"},
    ("verify",): {"mark", "aside"},
    ("verify", "--all"): {"mark", "folder", "aside", "indexes", "restored"},
    ("verify", "--share", "1/256"): {"mark", "aside"},
}


@pytest.fixture
def made(run: Run, repository: Repository, no_bus: None) -> Path:
    """Two captures, the older of them marked; everything verified, and a chunk set aside that no capture has."""
    for number in (1, 2):
        repository.write_manifest(manifest_of(repository, capture_id(number)))
    assert run("verify", "--all").exit_code == 0
    [(_, disk)] = repository.manifest(capture_id(1)).disks()
    found = {"guest": "db1", "target": "vda", "found_by": capture_id(2), "found_at": NOW, "reason": "other data"}
    mark = {"capture_id": capture_id(1), "index": disk.index, **found}
    repository.suspects.mark(Suspect.model_validate(mark))
    root = Path(repository.address)
    damaged = bytes(range(32))
    repository.store.put_many([(repository.objects.protection.locate(damaged), b"junk")])
    assert set_aside(repository.objects, Kind.CHUNK, damaged, "it was read so")
    (root / "verified/restored.json").write_bytes(checked({"format": 1, "captures": {}}))
    return root


def mend(path: Path, refusing: Refusing) -> None:
    refusing.words.clear()


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_verb_goes_on_and_names_what_it_cannot_read(
    run: Run, made: Path, refusing: Refusing, kind: str, trouble: str
) -> None:
    [path] = made.glob(KINDS[kind])
    aside = sorted(one for one in (made / "damaged").iterdir() if one.suffix != ".json")
    TROUBLES[trouble](path, refusing)
    for verb, reads in VERBS.items():
        ran = run(*verb)
        assert ran.exit_code == 0, (verb, ran.stdout, ran.stderr)
        must_tell = kind in reads and (trouble in UNREADABLE or kind == "mark")
        times = sum(path.name in line for line in ran.stderr.splitlines())
        assert times == 1 if must_tell else times <= 1, (verb, ran.stderr)
    assert sorted(one for one in (made / "damaged").iterdir() if one.suffix != ".json") == aside
    ran = run("forget", capture_id(1))
    assert (ran.exit_code, run("captures", "--json").document["captures"][0]["capture_id"]) == (0, capture_id(2))
    assert "warning: a mark of a suspect disk, perhaps of a forgotten capture" in ran.stderr or kind != "mark"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_unreadable_mark_marks_its_capture_for_programs_and_for_verify(
    run: Run, made: Path, refusing: Refusing, trouble: str
) -> None:
    [path] = made.glob(KINDS["mark"])
    TROUBLES[trouble](path, refusing)
    whys = {"too long": "damaged", "newer": "newer"}
    for verb in (("captures",), ("verify", "--all"), ("verify",)):
        [unread] = run(*verb, "--json").document["unread_suspects"]
        assert (unread["why"], unread["name"]) == (whys.get(trouble, "unreadable"), f"verified/{path.name}")
        assert unread["captures"] == ([] if verb == ("verify",) and trouble == "newer" else [capture_id(1)])
    captures = run("verify", "--json").document["captures"]
    assert captures == [capture_id(2)] + ([] if trouble == "newer" else [capture_id(1)])
    assert Repository.open(made).suspects.marked().has(capture_id(1), index_of(made))


def index_of(root: Path) -> str:
    return str(Repository.open(root).manifest(capture_id(1)).guests[0].disks[0].index)


@pytest.mark.parametrize("trouble", sorted(UNREADABLE))
def test_an_unreadable_record_is_never_and_is_written_over(
    run: Run, made: Path, refusing: Refusing, trouble: str
) -> None:
    path = made / KINDS["folder"]
    TROUBLES[trouble](path, refusing)
    status = run("verify", "--status", "--json").document
    assert status["verified"]["rehashed"] == {"oldest": None, "folders_never": 1}
    assert [path.name in one for one in status["unreadable_records"]] == [True]
    assert run("verify", "--share", "1/256", "--json").document["folders"] == ["7f"]
    mend(path, refusing)
    assert run("verify", "--status", "--json").document["verified"]["rehashed"]["folders_never"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_is_away_as_a_whole_is_no_document_that_cannot_be_read(
    run: Run, made: Path, refusing: Refusing, kind: str
) -> None:
    """It gives the config until the document is asked for."""
    [path] = made.glob(KINDS[kind])
    real = Filesystem.open
    verb = next(verb for verb, reads in VERBS.items() if kind in reads)

    def away(filesystem: Filesystem, asked: Path) -> io.RawIOBase:
        if path.name in str(asked):
            refusing.words.append("config")
        return real(filesystem, asked)

    refusing.words.append(path.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Filesystem, "open", away)
        assert run(*verb).exit_code == EXIT_REPOSITORY


@pytest.mark.parametrize("broken", ["store", "mark"])
def test_forget_says_that_it_forgot_whatever_the_marks_say_afterwards(
    run: Run, made: Path, refusing: Refusing, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    real, [path] = Repository.forget_all, made.glob(KINDS["mark"])

    def forget_all(repository: Repository, ids: list[str]) -> tuple[str, ...]:
        clear = repository.suspects.clear

        def broken_clear(wanted: list[str]) -> tuple[str, ...]:
            refusing.words += [path.name, "config"] if broken == "store" else [path.name]
            return clear(wanted)

        monkeypatch.setattr(repository.suspects, "clear", broken_clear)
        return real(repository, ids)

    monkeypatch.setattr(Repository, "forget_all", forget_all)
    ran = run("forget", "--keep-last", "1", "--json")
    assert ran.exit_code == 0
    assert ran.document["forgotten"] == [capture_id(1)]
    assert any("a mark of a suspect disk" in one for one in ran.document["warnings"])
    refusing.words.clear()
    assert Repository.open(made).capture_ids() == [capture_id(2)]
