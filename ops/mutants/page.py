"""The account of the mutants in docs/long.md, from what is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ops.mutants.account import Account
from ops.mutants.mutation import Mutant
from ops.mutants.trial import Outcome, Verdict

#: Where the section begins; the rest of the page is that of the long suites.
TITLE = "## Mutants"
_HEAD = """\
{title}

Single dangerous changes to safety-critical code, each tried against the unit tests that run the changed line.
`python -m ops.mutants --account` wrote this section on {when} UTC at commit {commit}, from the verdicts that it keeps.
A verdict counts only for the content of the file that it was found with: *tree* is the object that git has for that content.
*Equivalent* mutants change nothing that matters; `ops/mutants/equivalent.toml` has the reason for each.
*Caught* is a share of the mutants that were tried and are not equivalent.

| code | tree | mutants | tried | caught | equivalent | left | caught |
|---|---|---|---|---|---|---|---|
"""


class UnstagedError(RuntimeError):
    """The files are not those that git knows, so no row could say what was measured."""


def section(
    root: Path, mutants: Mapping[str, Sequence[Mutant]], verdicts: Sequence[Verdict], equivalents: Mapping[str, str]
) -> str:
    """Return the section: a row for each part of the code, then each mutant that is left. Raise UnstagedError."""
    if (changed := _git(root, "diff", "--name-only", "--", *mutants)) != "":
        raise UnstagedError(f"Commit or stage first: {changed}")
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    lines = [_HEAD.format(title=TITLE, when=now, commit=_git(root, "rev-parse", "--short=12", "HEAD"))]
    for part, all_of_it in mutants.items():
        places = {(mutant.path, mutant.start, mutant.end, mutant.after) for mutant in all_of_it}
        found = [one for one in verdicts if _place(one) in places]
        lines.append(_row(part, _object(root, part), len(all_of_it), Account(found, equivalents)) + "\n")
    left = Account(verdicts, equivalents).survivors
    lines += ["\nLeft, neither caught nor shown to be equivalent:\n\n"] if left else []
    lines += [f"- `{one.mutant.key}` (line {one.mutant.line}, {one.outcome})\n" for one in left]
    return "".join(lines)


def write(page: Path, text: str) -> None:
    """Put the section at the end of the page, in place of an earlier one."""
    before = page.read_text(encoding="utf-8").partition(TITLE)[0].rstrip("\n")
    page.write_text(f"{before}\n\n{text}", encoding="utf-8")


def _row(part: str, tree: str, mutants: int, account: Account) -> str:
    caught = sum(one.outcome is Outcome.CAUGHT for one in account.verdicts)
    left = len(account.survivors)
    tried = len(account.verdicts)
    share = f"{account.caught_share:.1%}" if tried else "-"
    return f"| {part} | {tree} | {mutants} | {tried} | {caught} | {tried - caught - left} | {left} | {share} |"


def _place(verdict: Verdict) -> tuple[str, int, int, str]:
    return verdict.mutant.path, verdict.mutant.start, verdict.mutant.end, verdict.mutant.after


def _object(root: Path, part: str) -> str:
    is_folder = (root / part).is_dir()
    name = _git(root, "write-tree", f"--prefix={part}/") if is_folder else _git(root, "rev-parse", f":{part}")
    return name[:12]


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
