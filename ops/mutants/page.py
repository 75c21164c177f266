"""The account of the mutants in docs/long.md, from what is kept."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
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
`python -m ops.mutants --account` writes this section from the verdicts that it keeps; with paths, the rows of these alone.
A row of a file was measured after that of its folder, and counts instead of it.
A verdict counts only for the content of the file that it was found with: *tree* is the object that git has for that content.
*Equivalent* mutants change nothing that matters; `ops/mutants/equivalent.toml` has the reason for each.
*Caught* is a share of the mutants that were tried and are not equivalent.

| code | tree | mutants | tried | caught | equivalent | left | caught | when (UTC), commit |
|---|---|---|---|---|---|---|---|---|
"""


#: A row of the table, and the line of a mutant that is left.
_ROW = re.compile(r"^\| ([a-z_./]+\S) \| [0-9a-f]+ \|.*\|$", re.MULTILINE)
_LEFT = re.compile(r"^- `([^`]+)` \(line .*\)$", re.MULTILINE)


class UnstagedError(RuntimeError):
    """The files are not those that git knows, so no row could say what was measured."""


def section(
    root: Path,
    mutants: Mapping[str, Sequence[Mutant]],
    verdicts: Sequence[Verdict],
    equivalents: Mapping[str, str],
    earlier: str = "",
) -> str:
    """Return the section: a row for each part of the code, then each mutant that is left. Raise UnstagedError.

    What `earlier`, a section or a page with one, says of other parts stays.
    """
    if (changed := _git(root, "diff", "--name-only", "--", *mutants)) != "":
        raise UnstagedError(f"Commit or stage first: {changed}")
    rows = {match[1]: match[0] for match in _ROW.finditer(earlier.partition(TITLE)[2])}
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M}, {_git(root, 'rev-parse', '--short=12', 'HEAD')}"
    for part, all_of_it in mutants.items():
        places = {(mutant.path, mutant.start, mutant.end, mutant.after) for mutant in all_of_it}
        found = [one for one in verdicts if _place(one) in places]
        rows[part] = _row(part, _object(root, part), len(all_of_it), Account(found, equivalents), when)
    left = [match[0] for match in _LEFT.finditer(earlier) if not _is_of(match[1], mutants)]
    survivors = Account(verdicts, equivalents).survivors
    left += [f"- `{one.mutant.key}` (line {one.mutant.line}, {one.outcome})" for one in survivors]
    told = ["", "Left, neither caught nor shown to be equivalent:", "", *left] if left else []
    return _HEAD.format(title=TITLE) + "\n".join([*_in_order(rows), *told]) + "\n"


def _in_order(rows: Mapping[str, str]) -> list[str]:
    """Return the rows as they came, but a file's after that of the folder that it lies in."""
    folders = [one for one in rows if not any(_is_below(one, other) for other in rows)]
    return [rows[one] for folder in folders for one in rows if one == folder or _is_below(one, folder)]


def _is_below(part: str, folder: str) -> bool:
    return part.startswith(f"{folder}/")


def _is_of(key: str, parts: Iterable[str]) -> bool:
    """Return True for the key of a mutant in one of these files or folders. A key begins with its file's path and `::`."""
    return any(key.startswith((f"{part}/", f"{part}::")) for part in parts)


def write(page: Path, text: str) -> None:
    """Put the section at the end of the page, in place of an earlier one."""
    before = page.read_text(encoding="utf-8").partition(TITLE)[0].rstrip("\n")
    page.write_text(f"{before}\n\n{text}", encoding="utf-8")


def _row(part: str, tree: str, mutants: int, account: Account, when: str) -> str:
    caught = sum(one.outcome is Outcome.CAUGHT for one in account.verdicts)
    left = len(account.survivors)
    tried = len(account.verdicts)
    share = f"{account.caught_share:.1%}" if tried else "-"
    counts = f"{mutants} | {tried} | {caught} | {tried - caught - left} | {left} | {share}"
    return f"| {part} | {tree} | {counts} | {when} |"


def _place(verdict: Verdict) -> tuple[str, int, int, str]:
    return verdict.mutant.path, verdict.mutant.start, verdict.mutant.end, verdict.mutant.after


def _object(root: Path, part: str) -> str:
    is_folder = (root / part).is_dir()
    name = _git(root, "write-tree", f"--prefix={part}/") if is_folder else _git(root, "rev-parse", f":{part}")
    return name[:12]


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
