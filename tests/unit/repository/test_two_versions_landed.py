"""The version that landed before this one, and this one, on one repository: each uses all that the other wrote (R4).

Each test goes both ways: the older one makes the repository and this one comes to it, and the other way round.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from .versions.program import capture_id
from .versions.two import LANDED, Older, Two, new_key, running, two_of

pytestmark = pytest.mark.case("R4")


@dataclass(frozen=True)
class Turns:
    """Two programs on one repository: the one that has made it, and the one that came to it."""

    two: Two
    older_is_first: bool

    def first(self, *steps: str) -> list[Any]:
        """Have the one that has made the repository do some steps; what each gave."""
        return _given(self.two.old(*steps) if self.older_is_first else self.two.this(*steps))

    def second(self, *steps: str) -> list[Any]:
        """Have the other one do some steps; what each gave."""
        return _given(self.two.this(*steps) if self.older_is_first else self.two.old(*steps))

    def check_both_find(self, **texts: str) -> None:
        """Check that both read exactly these captures, and find nothing wrong."""
        captures = {capture_id(int(number.removeprefix("n"))): text for number, text in texts.items()}
        for program in (self.first, self.second):
            read, verified, checked = program("read", "verify", "check")
            assert read == {"captures": captures, "unreadable": []}
            assert verified == {"damaged": [], "newer": [], "repaired": 0, "notes": []}
            assert (checked["sound"], checked["newer"]) == (True, [])
            assert sorted(checked["captures"]) == sorted(captures)

    def chunks(self) -> set[Path]:
        """Return the files of all chunks that writers see."""
        return {one for one in (self.two.root / "chunks").rglob("*") if one.is_file()}


def _given(answers: list[Any]) -> list[Any]:
    assert [one for one in answers if "error" in one] == []
    return [one["gave"] for one in answers]


@pytest.fixture(params=["older first", "this first"])
def turns(request: pytest.FixtureRequest, two: Two) -> Turns:
    found = Turns(two, request.param == "older first")
    found.first("init")
    return found


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Older]:
    with running(LANDED, tmp_path_factory.mktemp(LANDED)) as process:
        yield process


@pytest.fixture(params=["plain", "encrypted"])
def two(request: pytest.FixtureRequest, tmp_path: Path, older: Older) -> Two:
    return two_of(older, tmp_path, encrypted=request.param == "encrypted")


def test_each_restores_what_the_other_has_captured_upon_its_own(turns: Turns) -> None:
    (one,) = turns.first("capture 1 abc")
    (two,) = turns.second(f"incremental 2 {one} xbc")
    (three,) = turns.first(f"incremental 3 {two} xyc")
    turns.second(f"incremental 4 {three} xyz", "capture 5 abc")
    assert len(turns.chunks()) == 6  # each letter once, whoever wrote it
    turns.check_both_find(n1="abc", n2="xbc", n3="xyc", n4="xyz", n5="abc")


def test_what_one_forgets_the_other_frees_and_all_else_stays(turns: Turns) -> None:
    (one,) = turns.first("capture 1 abc")
    (two,) = turns.second(f"incremental 2 {one} xbc")
    turns.first(f"incremental 3 {two} xyc", "forget 1")
    assert sum(turns.second("gc", "gc")) > 0
    turns.second("forget 2")
    assert sum(turns.first("gc", "gc")) > 0
    assert len(turns.chunks()) == 3
    turns.check_both_find(n3="xyc")
    assert [one["garbage"] for one in turns.first("check") + turns.second("check")] == [0, 0]


@pytest.mark.parametrize("other_way", [False, True])
def test_what_a_session_of_one_relies_on_the_other_does_not_delete(turns: Turns, *, other_way: bool) -> None:
    writer, collector = (turns.second, turns.first) if other_way else (turns.first, turns.second)
    (parent,) = collector("capture 1 abc")
    writer("begin 2")
    assert collector("forget 1", "gc", "gc")[1:] == [0, 0]
    (index,) = writer(f"store abx {parent}")
    assert collector("gc", "gc") == [0, 0]
    writer(f"seal 2 abx {index} {parent}")
    collector("gc")
    writer("end 2")
    collector("gc", "gc", "gc")
    turns.check_both_find(n2="abx")
    assert len(turns.chunks()) == 3  # "c" is gone


def test_a_chunk_that_one_condemns_the_other_brings_back_for_a_session_that_saw_it(turns: Turns) -> None:
    turns.first("capture 1 abc", "begin 3")
    (index,) = turns.first("store abc")
    turns.second("forget 1", "begin 2", "gc")  # its own session is younger
    turns.second("end 2")
    turns.first(f"seal 3 abc {index}", "end 3")
    turns.second("gc", "gc")
    turns.check_both_find(n3="abc")


@pytest.mark.parametrize("moves", [0, 1, 3])
def test_a_collection_of_one_that_died_is_taken_over_by_the_other(turns: Turns, moves: int) -> None:
    turns.first("capture 1 abc", "capture 2 def", "forget 1", f"gc-killed {moves}")
    turns.check_both_find(n2="def")
    turns.second("capture 3 abq", f"gc-killed {moves}")
    freed = turns.first("gc", "gc")
    assert sum(freed) > 0
    turns.check_both_find(n2="def", n3="abq")
    assert turns.second("check")[0]["garbage"] == 0


def test_what_one_sets_aside_the_other_writes_anew_and_clears(turns: Turns) -> None:
    turns.first("capture 1 abc", "capture 2 abd")
    damaged = min(turns.chunks())
    damaged.chmod(0o640)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    (found,) = turns.first("verify")
    assert found["damaged"]
    assert not damaged.exists()
    (looked,) = turns.second("verify")
    assert looked["damaged"] == found["damaged"]
    turns.second("capture 3 abcd")
    (cleared,) = turns.first("share")
    assert (cleared["damaged"], cleared["repaired"], cleared["notes"]) == ([], 1, [])
    assert turns.second("share")[0] == {"damaged": [], "newer": [], "repaired": 0, "notes": []}
    turns.check_both_find(n1="abc", n2="abd", n3="abcd")


def test_a_pin_of_one_holds_for_the_other(turns: Turns, tmp_path: Path) -> None:
    file, older = tmp_path / "pins", tmp_path / "older"
    turns.first("capture 1 abc")
    shutil.copytree(turns.two.root, older)
    turns.second("capture 2 abd")
    assert turns.first(f"pin {file}") + turns.second(f"compare {file}") == [2, 2]
    turns.first("capture 3 abe", "forget 2")
    assert turns.second(f"pin {file}", "forget 3") == [3, None]
    assert turns.first(f"compare {file}") == [3]  # it was forgotten: the other's tombstone says so
    assert turns.first(f"pin {file}") + turns.second(f"compare {file}") == [1, 1]


@pytest.mark.parametrize("pinner_is_first", [False, True])
def test_a_repository_that_was_rolled_back_is_found_by_the_others_pin(
    turns: Turns, tmp_path: Path, *, pinner_is_first: bool
) -> None:
    file, older = tmp_path / "pins", tmp_path / "older"
    turns.first("capture 1 abc")
    turns.second("capture 2 abd")
    shutil.copytree(turns.two.root, older)
    turns.first("capture 3 abe")
    pinner, other = (turns.first, turns.second) if pinner_is_first else (turns.second, turns.first)
    assert pinner(f"pin {file}") == [3]
    shutil.rmtree(turns.two.root)
    shutil.copytree(older, turns.two.root)
    with pytest.raises(AssertionError, match="repository-rolled-back"):
        other(f"compare {file}")
    assert other("verify")[0]["damaged"] == []  # an older state is whole by itself


@pytest.mark.parametrize("two", ["encrypted"], indirect=True)
def test_a_key_that_one_has_added_opens_for_the_other(turns: Turns, tmp_path: Path) -> None:
    turns.first("capture 1 abc")
    added = new_key(tmp_path / "another", bytes(range(1, 33)))
    turns.second(f"key {added}")
    both = replace(turns, two=replace(turns.two, key=str(added)))
    both.check_both_find(n1="abc")
