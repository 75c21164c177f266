"""docs/invariants.md names tests that exist, and each situation from practice has one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "invariants.md"
#: The situations from practice that must have a test. Those of the control plane at size come later.
CASES = {
    *(f"I{number}" for number in range(1, 7)),
    *(f"P{number}" for number in range(1, 7)),
    *(f"G{number}" for number in range(1, 11)),
    *(f"S{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11)),
    *(f"R{number}" for number in range(1, 11)),
}


def rows() -> dict[int, list[str]]:
    """The tests of each invariant, by number."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
    return {int(line.split("|")[1]): re.findall(r"`(tests/[^`]+::[^`]+)`", line) for line in lines}


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_each_of_the_twelve_invariants_has_tests() -> None:
    found = rows()
    assert sorted(found) == list(range(1, 13))
    assert all(len(tests) >= 2 for tests in found.values())


@pytest.mark.parametrize("name", sorted({name for tests in rows().values() for name in tests}))
def test_a_test_that_the_page_names_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert function in functions_of(path)


def test_each_situation_from_practice_has_a_test() -> None:
    marked: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for call in re.findall(r"mark\.case\(([^)]*)\)", path.read_text(encoding="utf-8")):
            marked |= set(re.findall(r'"([A-Z]\d+)"', call))
    assert CASES - marked == set()
