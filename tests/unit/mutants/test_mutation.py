"""Which mutants a file has, and that each is a program that differs in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ops.mutants.__main__ import CRITICAL, ROOT, all_mutants, drawn
from ops.mutants.mutation import mutants_of, mutants_of_lua

SOURCE = '''\
"""A module."""
LIMIT = 3 < 4
log = None


class Store:
    size = 1

    def put(self, items: list[int], *, is_new: bool = not False) -> bool:
        """Put."""
        log.info("put", count=1 + 2)
        if is_new and len(items) >= 3:
            raise ValueError(f"{len(items) + 1} are too many")
        self.size = max(self.size, 5)
        items.append(1)
        label = "é" + str(self.size - 1)
        return not label == "x" or True if label else False

    def __repr__(self) -> str:
        return "a" if self.size > 2 else "b"
'''


def changes() -> set[tuple[str, str, str]]:
    return {(mutant.kind, mutant.before, mutant.after) for mutant in mutants_of("store.py", SOURCE)}


def test_every_kind_of_change_is_found() -> None:
    assert changes() == {
        ("condition", "is_new and len(items) >= 3", "True"),
        ("condition", "is_new and len(items) >= 3", "False"),
        ("boolean", "and", "or"),
        ("comparison", ">=", ">"),
        ("drop", 'raise ValueError(f"{len(items) + 1} are too many")', "pass"),
        ("drop", "self.size = max(self.size, 5)", "pass"),
        ("function", "max", "min"),
        ("drop", "items.append(1)", "pass"),
        ("arithmetic", "-", "+"),
        ("condition", "label", "True"),
        ("condition", "label", "False"),
        ("not", 'not label == "x"', 'bool(label == "x")'),
        ("comparison", "==", "!="),
        ("boolean", "or", "and"),
    }


def test_words_for_people_and_what_runs_at_import_are_left_alone() -> None:
    touched = " ".join(before for _, before, _ in changes())
    for text in ("log.info", "3 < 4", "not False", "size > 2", "len(items) + 1}"):
        assert text not in touched.replace('raise ValueError(f"{len(items) + 1} are too many")', "")


def test_a_condition_of_words_alone_is_left_alone_unless_asking_it_does_something() -> None:
    source = """def f(x, log):
    if x > 2:
        log.info("many")
    if x.pop() > 2:
        log.info("many")
    if x > 2:
        log.info("many")
        return 1
"""
    lines = {mutant.line for mutant in mutants_of("f.py", source) if mutant.kind in {"condition", "comparison"}}
    assert lines == {4, 6}


def test_an_offset_counts_bytes_and_not_characters() -> None:
    mutant = next(one for one in mutants_of("store.py", SOURCE) if one.kind == "arithmetic")
    assert b"str(self.size + 1)" in mutant.applied(SOURCE.encode())


def test_a_name_that_a_condition_binds_stays_bound() -> None:
    source = "def f(x):\n    if (y := x) is None:\n        return 1\n    return y\n"
    for mutant in mutants_of("f.py", source):
        changed: dict[str, object] = {}
        exec(mutant.applied(source.encode()), changed)  # noqa: S102  a mutant is a program
        f = changed["f"]
        assert callable(f)
        assert f(2) in {1, 2}


def test_a_script_loses_each_call_and_each_condition() -> None:
    script = "local n = redis.call('GET', k)\nif n == '1' then\n  redis.call('DEL', k)\nend\n"
    found = [(mutant.kind, mutant.before, mutant.after) for mutant in mutants_of_lua("s.lua", script)]
    assert found == [
        ("condition", "n == '1'", "true"),
        ("condition", "n == '1'", "false"),
        ("drop", "redis.call('DEL', k)", "do end"),
    ]
    assert mutants_of_lua("s.lua", script)[2].applied(script.encode()) == script.encode().replace(
        b"redis.call('DEL', k)", b"do end"
    )


@pytest.mark.parametrize("folder", CRITICAL)
def test_each_mutant_of_the_project_is_another_program(folder: str) -> None:
    mutants = all_mutants([folder])
    assert mutants
    for mutant in mutants:
        source = Path(ROOT / mutant.path).read_bytes()
        assert mutant.applied(source) != source
        if mutant.path.endswith(".py"):
            ast.parse(mutant.applied(source))


def test_a_draw_is_the_same_for_the_same_seed() -> None:
    mutants = mutants_of("store.py", SOURCE)
    assert drawn(mutants, 0.5, 1) == drawn(mutants, 0.5, 1)
    assert drawn(mutants, 0.5, 1) != drawn(mutants, 0.5, 2)
    assert len(drawn(mutants, 0.5, 1)) == len(mutants) // 2
    assert drawn(mutants, 1.0, 1) == mutants


def test_a_fake_beside_its_seam_is_no_safety_critical_code() -> None:
    assert "workers/guard/agent_line.py" in {mutant.path for mutant in all_mutants(["workers/guard"])}
    assert not [mutant for mutant in all_mutants(["workers/guard"]) if "fake" in mutant.path]
