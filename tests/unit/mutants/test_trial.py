"""Mutants of a tiny project, tried by the real pytest under the real coverage."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ops.mutants.account import Account, known_equivalents, unused_equivalents
from ops.mutants.mutation import mutants_of
from ops.mutants.reach import BaselineError, Reach, measure
from ops.mutants.runner import RunnerError
from ops.mutants.trial import BROKE, Copy, Outcome, Verdict

MODULE = """\
def sign(x: int, seen: list[int]) -> int:
    seen.append(x)
    while x > 9:
        x -= 1
    if x > 0:
        return 1
    return 0


def unused(x: int) -> bool:
    return True
"""
TESTS = """\
from orchestrator.sign import sign


def test_sign() -> None:
    assert sign(5, []) == 1
    assert sign(12, []) == 1
    assert sign(-5, []) == 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "orchestrator").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "orchestrator" / "__init__.py").touch()
    (root / "orchestrator" / "sign.py").write_text(MODULE)
    (root / "tests" / "test_sign.py").write_text(TESTS)
    (root / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = lab\n  long\n")
    subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    return root


def verdicts(project: Path, place: Path) -> tuple[list[Verdict], Reach]:
    copy = Copy.of(project, place / "copy")
    reach = measure(copy.root, place, ["tests"])
    mutants = mutants_of("orchestrator/sign.py", MODULE)
    found = [copy.tried(mutant, reach) for mutant in mutants]
    copy.close()
    return found, reach


def test_caught_survived_unreached_and_endless(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.mutants.trial.START_S", 5.0)
    monkeypatch.setattr("ops.mutants.trial.TEST_S", 60.0)  # as a thread that does not end
    found, reach = verdicts(project, tmp_path)
    told = {(one.mutant.line, one.mutant.kind, one.mutant.after): one for one in found}
    assert told[2, "drop", "pass"].outcome is Outcome.SURVIVED  # no test looks at `seen`
    assert told[3, "condition", "False"].outcome is Outcome.SURVIVED  # 12 is above 0 as well
    assert told[4, "drop", "pass"].by == "no end"
    assert told[5, "condition", "False"].outcome is Outcome.CAUGHT
    assert told[5, "condition", "False"].by == "tests/test_sign.py::test_sign"
    assert told[5, "comparison", ">="].outcome is Outcome.SURVIVED
    assert told[11, "constant", "False"].outcome is Outcome.UNREACHED
    assert reach.of("orchestrator/sign.py", [6]) == ["tests/test_sign.py::test_sign"]
    assert (tmp_path / "copy/orchestrator/sign.py").read_text() == MODULE  # put back after each


def test_a_project_that_makes_errors_of_warnings_is_tried_and_not_only_broken(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As this one does. A pytest that could not begin counted as a test that failed: every mutant as caught."""
    monkeypatch.setattr("ops.mutants.trial.TEST_S", 3.0)
    with (project / "pytest.ini").open("a") as settings:
        settings.write("filterwarnings = error\n")
    found, _ = verdicts(project, tmp_path)
    assert {one.outcome for one in found} == set(Outcome)
    assert {one.by for one in found if one.outcome is Outcome.CAUGHT} == {"tests/test_sign.py::test_sign"}


@pytest.mark.parametrize("hint", ["tests/test_sign.py::test_sign", "tests/test_sign.py::test_gone", None])
def test_the_test_that_is_hinted_at_is_run_first_and_alone(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hint: str | None
) -> None:
    """One that is gone, or does not reach the change any more, is not run."""
    names = ["tests/test_sign.py::test_sign", "tests/test_sign.py::test_other"]
    mutant = next(one for one in mutants_of("orchestrator/sign.py", MODULE) if one.kind == "condition")
    reach = Reach(
        {"orchestrator/sign.py": {line: frozenset(names) for line in range(1, 13)}}, dict.fromkeys(names, 0.1)
    )
    copy, runs = Copy.of(project, tmp_path / "copy"), list[list[str]]()
    monkeypatch.setattr(copy, "_failed", lambda tests, _: runs.append(list(tests)))
    assert copy.tried(mutant, reach, hint).outcome is Outcome.SURVIVED
    assert sorted(test for part in runs for test in part) == sorted(names)  # each once
    assert (runs[0] == [hint]) is (hint in names)
    copy.close()


def test_a_pytest_that_breaks_says_nothing_of_a_mutant(project: Path, tmp_path: Path) -> None:
    copy = Copy.of(project, tmp_path / "copy")
    (copy.root / "broken.py").write_text("raise BaseException('as it happens')\n")
    (copy.root / "pytest.ini").write_text("[pytest]\naddopts = -p broken\n")
    reach = Reach({}, {"tests/test_sign.py::test_sign": 0.1})
    with pytest.raises(RunnerError, match="as it happens"):
        copy.check(reach)
    copy.close()


ENDS = """def run(x: int) -> int:
    import os
    if x < 0:
        os._exit(7)
    return x
"""


def test_a_mutant_that_ends_pytest_is_caught_if_the_tests_pass_without_it(project: Path, tmp_path: Path) -> None:
    """No test is named as failed then: the process is gone. A tool that is wrong looks alike, so they are run again."""
    (project / "orchestrator" / "ends.py").write_text(ENDS)
    (project / "tests" / "test_ends.py").write_text(
        "from orchestrator.ends import run\n\n\ndef test_run() -> None:\n    assert run(1) == 1\n"
    )
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    copy = Copy.of(project, tmp_path / "copy")
    reach = Reach({"orchestrator/ends.py": {3: frozenset({"tests/test_ends.py::test_run"})}}, {})
    ending = next(one for one in mutants_of("orchestrator/ends.py", ENDS) if one.after == "True")
    assert copy.tried(ending, reach) == Verdict(ending, Outcome.CAUGHT, BROKE, 1)
    (copy.root / "broken.py").write_text("raise BaseException('as it happens')\n")
    (copy.root / "pytest.ini").write_text("[pytest]\naddopts = -p broken\n")
    with pytest.raises(RunnerError, match="as it happens"):
        copy.tried(ending, reach)
    assert (copy.root / "orchestrator" / "ends.py").read_text() == ENDS
    copy.close()


def test_a_copy_in_which_a_test_fails_without_a_mutant_judges_nothing(project: Path, tmp_path: Path) -> None:
    copy = Copy.of(project, tmp_path / "copy")
    reach = Reach({}, {"tests/test_sign.py::test_sign": 0.1})
    copy.check(reach)
    (copy.root / "tests" / "test_sign.py").write_text(TESTS.replace("== 0", "== 7"))
    with pytest.raises(BaselineError, match="test_sign"):
        copy.check(reach)
    copy.close()


def test_a_suite_that_fails_by_itself_judges_nothing(project: Path, tmp_path: Path) -> None:
    (project / "tests" / "test_sign.py").write_text(TESTS.replace("== 0", "== 7"))
    with pytest.raises(BaselineError, match="test_sign"):
        measure(project, tmp_path, ["tests"])


def verdict(line: int, outcome: Outcome) -> Verdict:
    mutant = next(one for one in mutants_of("orchestrator/sign.py", MODULE) if one.line == line)
    return Verdict(mutant, outcome)


def test_an_equivalent_counts_for_nothing_and_a_survivor_is_told() -> None:
    caught, equivalent, survivor = (
        verdict(line, outcome)
        for line, outcome in ((4, Outcome.CAUGHT), (2, Outcome.SURVIVED), (11, Outcome.UNREACHED))
    )
    account = Account([caught, equivalent, survivor], {equivalent.mutant.key: "nobody looks"})
    assert account.caught_share == 0.5
    assert account.survivors == [survivor]
    assert "unreached: orchestrator/sign.py:11" in account.told()
    assert account.by_package() == {"orchestrator": {"caught": 1, "equivalent": 1, "unreached": 1}}
    assert unused_equivalents([caught], {equivalent.mutant.key: "nobody looks"}) == [equivalent.mutant.key]


def test_the_equivalents_that_are_kept_have_reasons(tmp_path: Path) -> None:
    known_equivalents()
    (tmp_path / "e.toml").write_text('[[mutant]]\nkey = "a"\nreason = " "\n')
    with pytest.raises(ValueError, match="no reason"):
        known_equivalents(tmp_path / "e.toml")
