"""`python -m ops.mutants`: try mutants of the safety-critical files against the unit tests; exit 1 below the target."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from typing import Annotated

import typer

from ops.mutants import page
from ops.mutants.account import Account, known_equivalents
from ops.mutants.kept import Kept
from ops.mutants.mutation import Mutant, mutants_of, mutants_of_lua
from ops.mutants.reach import BaselineError, Reach, measure
from ops.mutants.runner import RunnerError
from ops.mutants.trial import Copy, Verdict

ROOT = Path(__file__).parents[2]
#: The files whose guarantees hold guests and data: what the mutants are made of unless told otherwise.
CRITICAL = (
    "workers/guard",
    "workers/steps",
    "workers/scratch",
    "workers/journal.py",
    "workers/changes.py",
    "workers/claims.py",
    "workers/durable.py",
    "workers/recovery.py",
    "workers/hold.py",
    "orchestrator",
    "freezeframe/barrier",
    "freezeframe/contract",
    "freezeframe/repository",
)
#: At least so many of the mutants must be caught.
TARGET = 0.95
TESTS = ("tests/unit",)
#: Where verdicts are kept between runs, and the page with their account.
KEPT = ROOT / ".mutants"
PAGE = ROOT / "docs" / "long.md"


def main(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files or folders; the safety-critical ones if none.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Try this share of all mutants, drawn by chance.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="What the draw begins with.")] = 0,
    side_by_side: Annotated[int, typer.Option("--jobs", min=1, help="Mutants that are tried at once.")] = 2,
    tests: Annotated[list[str] | None, typer.Option(help="Folders of tests; all unit tests if none.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the mutants and try none.")] = False,
    report: Annotated[Path | None, typer.Option("--json", help="Write all verdicts to this file.")] = None,
    directory: Annotated[Path, typer.Option("--kept", help="Keep verdicts here, and try none that is known.")] = KEPT,
    account_only: Annotated[
        bool, typer.Option("--account", help="Try none; write what is kept of them into docs/long.md.")
    ] = False,
) -> None:
    """Try single dangerous changes to safety-critical code, and say which of them no test notices.

    A run that is interrupted continues where it ended: verdicts are kept as soon as they are known.
    """
    mutants = drawn(all_mutants(paths or CRITICAL), share, seed)
    if listed:
        for mutant in mutants:
            print(f"{mutant.path}:{mutant.line} {mutant.key}")
        return
    kept = Kept(directory, ROOT, tests or TESTS)
    if account_only:
        write_account(kept, paths or CRITICAL)
        return
    try:
        verdicts = tried(mutants, tests or TESTS, side_by_side, kept)
    except BaselineError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    if report is not None:
        report.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1), encoding="utf-8")
    account = Account(verdicts, known_equivalents())
    print(account.told())
    raise typer.Exit(0 if account.caught_share >= TARGET else 1)


def all_mutants(paths: list[str] | tuple[str, ...]) -> list[Mutant]:
    """Return all mutants of these files and folders, in the order of files and places."""
    found: list[Mutant] = []
    for path in paths:
        place = ROOT / path
        files = [place] if place.is_file() else sorted([*place.rglob("*.py"), *place.rglob("*.lua")])
        for file in files:
            if file.name.startswith("fake_"):  # the tests' own, beside the seam that it stands in for
                continue
            name, source = str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")
            found += mutants_of_lua(name, source) if file.suffix == ".lua" else mutants_of(name, source)
    return found


def drawn(mutants: list[Mutant], share: float, seed: int) -> list[Mutant]:
    """Return a share of the mutants, drawn by chance and the same for the same seed."""
    if share >= 1.0:
        return mutants
    chosen = random.Random(seed).sample(range(len(mutants)), max(1, round(share * len(mutants))))
    return [mutants[index] for index in sorted(chosen)]


def tried(mutants: Sequence[Mutant], tests: Sequence[str], side_by_side: int, kept: Kept) -> list[Verdict]:
    """Try all mutants whose verdict is not known, each in one of a few copies of the project. Raise BaselineError."""
    equivalents = known_equivalents()
    known = {mutant: kept.counts(mutant, equivalents) for mutant in mutants}
    new = [mutant for mutant, verdict in known.items() if verdict is None]
    found = {verdict.mutant: verdict for verdict in (_tried_all(new, tests, side_by_side, kept) if new else ())}
    return [verdict for mutant in mutants if (verdict := known[mutant] or found.get(mutant)) is not None]


def write_account(kept: Kept, parts: Sequence[str], to: Path = PAGE) -> None:
    """Write into the page what is kept of these files and folders; it keeps what it has of others."""
    mutants = {part: all_mutants([part]) for part in parts}
    known = (kept.last(mutant) for part in mutants.values() for mutant in part)
    verdicts = [verdict for verdict in known if verdict is not None]
    page.write(to, page.section(ROOT, mutants, verdicts, known_equivalents(), to.read_text("utf-8")))


def _tried_all(mutants: Sequence[Mutant], tests: Sequence[str], side_by_side: int, kept: Kept) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        directory = Path(name)
        copies: Queue[Copy] = Queue()
        for number in range(side_by_side):
            copies.put(copy := Copy.of(ROOT, directory / f"copy-{number}"))
            copy.compile(tests)
        first = copies.get()
        if (reach := kept.reach()) is None:
            reach = measure(first.root, directory, tests)
            kept.add_reach(reach)
        first.check(reach)
        copies.put(first)
        with ThreadPoolExecutor(side_by_side) as pool:
            futures = [pool.submit(_tried, copies, mutant, reach, kept.hint(mutant)) for mutant in mutants]
            verdicts = []
            for mutant, future in zip(mutants, futures, strict=True):
                try:
                    verdict = future.result()
                except RunnerError as error:  # it judges nothing, and is no reason to judge no other
                    print(f"undecided {mutant.path}:{mutant.line} {mutant.key}: {error}", file=sys.stderr, flush=True)
                    continue
                kept.add(verdict)
                verdicts.append(verdict)
        while not copies.empty():
            copies.get().close()
        return verdicts


def _tried(copies: Queue[Copy], mutant: Mutant, reach: Reach, hint: str | None) -> Verdict:
    copy = copies.get()
    try:
        verdict = copy.tried(mutant, reach, hint)
    finally:
        copies.put(copy)
    print(f"{verdict.outcome:9} {mutant.path}:{mutant.line} {mutant.kind} {verdict.by}", file=sys.stderr, flush=True)
    return verdict


if __name__ == "__main__":
    typer.run(main)
