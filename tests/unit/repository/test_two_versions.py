"""A version from before keys that may be ignored, and this one, on one repository: the older one from an archive (R4).

It knows no keys that may be ignored: to it each document with one more key is newer. So it names this version's
captures, restores its own, and deletes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.chain import read_chain
from freezeframe.repository.check import check
from freezeframe.repository.freshness import holes
from freezeframe.repository.garbage import collect

from .versions import program
from .versions.program import capture_id
from .versions.two import LANDED, REFUSING, Older, Two, archive, run_as, running, two_of

pytestmark = pytest.mark.case("R4")


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Older]:
    with running(REFUSING, tmp_path_factory.mktemp(REFUSING)) as process:
        yield process


@pytest.fixture(params=["plain", "encrypted"])
def two(request: pytest.FixtureRequest, tmp_path: Path, older: Older) -> Two:
    return two_of(older, tmp_path, encrypted=request.param == "encrypted")


@pytest.mark.parametrize(("version", "keeps_unknown_keys"), [(REFUSING, False), (LANDED, True)])
def test_the_archive_is_the_older_version(version: str, *, keeps_unknown_keys: bool) -> None:
    told = run_as(
        version, "-c", "import freezeframe.repository.document as one; print(one.__file__, hasattr(one, 'Document'))"
    )
    assert told == f"{archive(version)}/freezeframe/repository/document.py {keeps_unknown_keys}\n"


def test_this_version_uses_what_the_older_one_has_written(two: Two) -> None:
    _, first, second = two.old("init", "capture 1 abc", "capture 2 abd")
    repository = two.new()
    texts = {capture_id(1): "abc", capture_id(2): "abd"}
    assert program.read(repository) == {"captures": texts, "unreadable": []}
    program.write(repository, 3, "xbd", second["gave"])
    assert first["gave"] != second["gave"]
    repository.forget(capture_id(1))
    repository.forget(capture_id(2))
    collect(repository, grace=timedelta(0))
    assert collect(repository, grace=timedelta(0)).deleted.objects == 0
    assert program.read(repository) == {"captures": {capture_id(3): "xbd"}, "unreadable": []}
    assert verify(repository, repository.manifests(), Tier.REHASHED).sound
    found = check(repository)
    assert (found.sound, found.garbage.count) == (True, 0)
    assert holes(read_chain(repository)) == []


def test_the_older_version_names_this_ones_captures_restores_its_own_and_deletes_nothing(two: Two) -> None:
    _, first = two.old("init", "capture 1 abc")
    repository = two.new()
    program.write(repository, 2, "xbc", first["gave"])
    two.old("capture 3 def", "forget 3")
    before = two.objects()
    read, collected = two.old("read", "gc")
    assert read["gave"]["captures"] == {capture_id(1): "abc"}
    (unreadable,) = read["gave"]["unreadable"]
    for told in (unreadable, collected["error"]):
        assert told["code"] in {"manifest-newer", "newer-format"}
        assert "newer version of freezeframe" in told["message"]
        assert "Update freezeframe" in told["advice"]
        assert "forget" not in told["advice"]
    assert two.objects() == before
    collect(two.new(), grace=timedelta(0))  # this version frees what the older one would not
    texts = {capture_id(1): "abc", capture_id(2): "xbc"}
    assert program.read(two.new()) == {"captures": texts, "unreadable": []}


def test_the_older_version_works_in_a_repository_that_this_one_has_made(two: Two) -> None:
    key = program.Key(None if two.key == "-" else Path(two.key))
    Repository.init(two.root, chunk_bytes=program.CHUNK, secret=key.secret(), label="first")
    written, read, _, collected = two.old("capture 1 abc", "read", "forget 1", "gc")
    assert "gave" in written
    assert read["gave"]["captures"] == {capture_id(1): "abc"}
    assert collected["gave"] > 0


def test_the_older_version_collects_nothing_while_this_one_has_a_session(two: Two) -> None:
    """This version's sessions have a key that the older one does not know."""
    two.old("init", "capture 1 abc", "forget 1")
    two.new().sessions.begin(capture_id(9), "this version")
    before = two.objects()
    (collected,) = two.old("gc")
    assert collected["error"]["code"] == "newer-format"
    assert "newer version of freezeframe" in collected["error"]["message"]
    assert two.objects() == before
    two.new().sessions.end(capture_id(9), sealed=False)
    assert collect(two.new(), grace=timedelta(0)).deleted.objects > 0
