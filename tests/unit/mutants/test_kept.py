"""Verdicts are kept between runs, count as long as they say something, and make the account of a page."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ops.mutants.account import Account
from ops.mutants.kept import Kept
from ops.mutants.mutation import Mutant, mutants_of
from ops.mutants.page import UnstagedError, section, write
from ops.mutants.reach import Reach
from ops.mutants.trial import Outcome, Verdict

MODULE = "def sign(x: int) -> int:\n    if x > 0:\n        return 1\n    return 0\n"
TEST = "tests/test_sign.py::TestSign::test_sign[1]"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "orchestrator").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "orchestrator" / "sign.py").write_text(MODULE)
    (root / "tests" / "test_sign.py").write_text("class TestSign:\n    def test_sign(self, x): ...\n")
    (root / "tests" / "page.md").write_text("# Page\n")
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "as it is")


def kept(root: Path, *tests: str) -> Kept:
    return Kept(root.parent / "kept", root, tests or ("tests",))


def mutants(root: Path) -> list[Mutant]:
    return mutants_of("orchestrator/sign.py", (root / "orchestrator" / "sign.py").read_text())


def test_a_verdict_is_known_to_the_next_run(root: Path) -> None:
    one, other, *_ = mutants(root)
    verdict = Verdict(one, Outcome.CAUGHT, TEST, 3)
    kept(root).add(verdict)
    assert kept(root).counts(one, {}) == verdict
    assert kept(root).counts(other, {}) is None


def test_a_verdict_counts_for_the_content_that_it_was_found_with_only(root: Path) -> None:
    kept(root).add(Verdict(mutants(root)[0], Outcome.CAUGHT, TEST, 1))
    (root / "orchestrator" / "sign.py").write_text(MODULE + "\n\nOTHER = 1\n")
    assert kept(root).counts(mutants(root)[0], {}) is None
    assert kept(root).last(mutants(root)[0]) is None


def test_a_mutant_that_was_caught_is_tried_again_when_the_test_is_gone(root: Path) -> None:
    one = mutants(root)[0]
    kept(root).add(Verdict(one, Outcome.CAUGHT, TEST, 1))
    (root / "tests" / "test_other.py").touch()
    commit(root)
    assert kept(root).counts(one, {}) is not None  # another test more takes nothing away
    (root / "tests" / "test_sign.py").write_text("class TestSign:\n    def test_sign_of_zero(self): ...\n")
    assert kept(root).counts(one, {}) is None


def test_a_mutant_that_ended_its_tests_stays_caught(root: Path) -> None:
    one = mutants(root)[0]
    kept(root).add(Verdict(one, Outcome.CAUGHT, "no end", 1))
    assert kept(root).counts(one, {}) is not None


@pytest.mark.parametrize("outcome", [Outcome.SURVIVED, Outcome.UNREACHED])
def test_a_survivor_is_tried_again_when_any_test_or_code_is_another(root: Path, outcome: Outcome) -> None:
    one = mutants(root)[0]
    kept(root).add(Verdict(one, outcome))
    assert kept(root).counts(one, {}) is not None
    assert kept(root, "tests/test_sign.py").counts(one, {}) is None  # fewer tests, or others
    (root / "tests" / "test_other.py").touch()
    git(root, "add", "-A")
    assert kept(root).counts(one, {}) is None
    assert kept(root).counts(one, {one.key: "it changes nothing"}) is not None
    assert kept(root).last(one) == Verdict(one, outcome)


def test_a_line_that_an_interrupted_run_did_not_finish_is_passed_over(root: Path) -> None:
    one = mutants(root)[0]
    kept(root).add(Verdict(one, Outcome.SURVIVED))
    with (root.parent / "kept" / "verdicts.jsonl").open("a") as file:
        file.write('{"path": "orchestr')
    assert kept(root).last(one) is not None


def test_the_reach_is_measured_anew_for_other_code_or_tests(root: Path) -> None:
    reach = Reach({"orchestrator/sign.py": {2: frozenset({TEST})}}, {TEST: 0.5})
    kept(root).add_reach(reach)
    assert kept(root).reach() == reach
    assert kept(root, "tests/test_sign.py").reach() is None
    (root / "orchestrator" / "sign.py").write_text(MODULE + "\n")
    assert kept(root).reach() is None


def test_the_section_says_what_was_measured_and_what_is_left(root: Path) -> None:
    one, other, third, *rest = mutants(root)
    verdicts = [Verdict(one, Outcome.CAUGHT), Verdict(other, Outcome.SURVIVED), Verdict(third, Outcome.UNREACHED)]
    parts = {"orchestrator": mutants(root), "orchestrator/sign.py": []}
    text = section(root, parts, verdicts, {third.key: "it changes nothing"})
    folder = git(root, "rev-parse", "HEAD:orchestrator").strip()[:12]
    file = git(root, "rev-parse", "HEAD:orchestrator/sign.py").strip()[:12]
    assert f"| orchestrator | {folder} | {3 + len(rest)} | 3 | 1 | 1 | 1 | 50.0% | " in text
    assert f"| orchestrator/sign.py | {file} | 0 | 0 | 0 | 0 | 0 | - | " in text
    assert f"- `{other.key}` (line {other.line}, survived)" in text
    assert third.key not in text
    assert Account(verdicts, {}).caught_share == pytest.approx(1 / 3)


def test_a_section_of_some_files_keeps_what_the_page_says_of_others(root: Path) -> None:
    one, other, *_ = mutants(root)
    whole = section(root, {"orchestrator": mutants(root), "tests": []}, [Verdict(other, Outcome.SURVIVED)], {})
    row_of_folder = next(line for line in whole.splitlines() if line.startswith("| orchestrator |"))
    known = f"{whole}- `workers/of_before.py::f::flip` (line 3, survived)\n"
    text = section(root, {"orchestrator/sign.py": [one]}, [Verdict(one, Outcome.CAUGHT)], {}, known)
    rows = [line.partition(" |")[0] for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["| code", "| orchestrator", "| orchestrator/sign.py", "| tests"]
    assert row_of_folder in text
    assert "| 1 | 1 | 1 | 0 | 0 | 100.0% | " in text
    assert "- `workers/of_before.py::f::flip` (line 3, survived)\n" in text
    assert other.key not in text
    again = section(root, {"orchestrator/sign.py": [one]}, [Verdict(one, Outcome.SURVIVED)], {}, text)
    assert again.count("| orchestrator/sign.py |") == 1
    assert f"- `{one.key}` (line {one.line}, survived)" in again


def test_no_section_is_written_of_files_that_git_does_not_know(root: Path) -> None:
    (root / "orchestrator" / "sign.py").write_text(MODULE + "\n")
    with pytest.raises(UnstagedError, match=r"sign\.py"):
        section(root, {"orchestrator": mutants(root)}, [], {})


def test_a_section_takes_the_place_of_the_earlier_one(root: Path) -> None:
    page = root / "tests" / "page.md"
    write(page, "## Mutants\n\nold\n")
    write(page, "## Mutants\n\nnew\n")
    assert page.read_text() == "# Page\n\n## Mutants\n\nnew\n"


def test_a_change_that_a_test_caught_is_tried_against_it_first_in_other_content(root: Path) -> None:
    one, other, *_ = mutants(root)
    kept(root).add(Verdict(one, Outcome.CAUGHT, TEST, 1))
    kept(root).add(Verdict(other, Outcome.CAUGHT, "no end", 1))  # names no test
    (root / "orchestrator" / "sign.py").write_text("# Of another year.\n\n" + MODULE)
    moved, unnamed, never, *_ = mutants(root)
    assert moved.key == one.key
    assert kept(root).counts(moved, {}) is None
    assert kept(root).hint(moved) == TEST
    assert kept(root).hint(unnamed) is None
    assert kept(root).hint(never) is None
