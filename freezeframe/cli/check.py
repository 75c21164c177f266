"""`freezeframe repo check`: is everything there that captures refer to, and what is there besides?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import typer
from rich.text import Text

from freezeframe.cli.output import AsJson, err, out, print_json
from freezeframe.cli.progress import showing
from freezeframe.cli.secret import open_repository, pinned
from freezeframe.cli.verified import NEWER, places_text
from freezeframe.errors import EXIT_DAMAGED, EXIT_REPOSITORY
from freezeframe.repository import Repository
from freezeframe.repository.check import CheckReport, Garbage
from freezeframe.repository.check import check as check_structure
from freezeframe.repository.errors import NewerFormat, RepositoryRolledBack
from freezeframe.repository.freshness import against_pin, holes, read_chain

#: Names of each sort that are shown to people; JSON has all.
_SHOWN = 3


def check(*, as_json: AsJson = False) -> None:
    """Check the structure of the whole repository without reading a chunk: config, key slots, manifests, indexes, and that
    every chunk is there. Nothing is changed.

    What nothing refers to is garbage: left by a capture that died, or of one that is under way. It is told, and is no damage.
    Whether chunks are what was captured, `freezeframe verify` finds out.

    Exit code: 0 sound; 7 damaged, with every capture that is affected named; 5 something was written by a newer version, which
    this one does not understand, or is not given by the storage.
    """
    opened = open_repository(for_hours=True)
    report = _check(opened)
    chain, known = read_chain(opened), pinned(opened)
    missing = [*(against_pin(chain, known) if known else ()), *holes(chain)]
    if as_json:
        extra = {
            "sound": _is_sound(report) and not missing,
            "damaged_captures": report.damaged_captures,
            "rolled_back": missing,
        }
        print_json({**extra, **dataclasses.asdict(report)})
    else:
        _show_missing(missing)
        _show(report, whole=not missing)
    if missing:
        raise typer.Exit(EXIT_DAMAGED)
    if not _is_sound(report):
        raise typer.Exit(EXIT_REPOSITORY if report.sound else EXIT_DAMAGED)


def _is_sound(report: CheckReport) -> bool:
    return report.sound and not report.newer and not report.unreadable


def _check(repository: Repository) -> CheckReport:
    with showing(amount=lambda count: f"{count:.0f} folders") as progress:
        return check_structure(repository, lambda done: progress.move("check", done, 256))


def _show_missing(sentences: Sequence[str]) -> None:
    for message in sentences:
        err().print(Text.assemble(("rolled back: ", "bold red"), message), soft_wrap=True)
    if sentences:
        err().print(f"  → {RepositoryRolledBack.advice}", soft_wrap=True)


def _show(report: CheckReport, *, whole: bool) -> None:
    _show_garbage(report.garbage)
    for message in report.newer:
        err().print(Text.assemble(NEWER, message), soft_wrap=True)
    if report.newer:
        err().print(f"  → {NewerFormat.advice}", soft_wrap=True)
    for message in report.unreadable:
        err().print(Text.assemble(("unreadable: ", "bold red"), message), soft_wrap=True)
    if _is_sound(report):
        looked = f"captures: {len(report.captures)}, indexes: {report.indexes_read}, chunks: {report.chunks_found}, all there"
        word = ("sound", "bold green") if whole else ("all objects sound", "bold")
        out().print(Text.assemble(word, f": {looked}"))
        return
    for message in (*report.key_slots, *report.manifests):
        err().print(Text.assemble(("damaged: ", "bold red"), message), soft_wrap=True)
    for damage in (*report.indexes, *report.chunks):
        aside = " (set aside)" if damage.set_aside else ""
        err().print(Text.assemble(("damaged: ", "bold red"), damage.reason, aside, places_text(damage)), soft_wrap=True)
    if report.damaged_captures:
        out().print("Damaged captures: " + ", ".join(report.damaged_captures), soft_wrap=True)
    if report.chunks:
        err().print(
            "  → Capture these guests again: what they still have of it is then written anew, also for older captures."
        )


def _show_garbage(garbage: Garbage) -> None:
    sorts = [
        ("chunks without a reference", garbage.chunks),
        ("indexes without a reference", garbage.indexes),
        ("left in tmp/", garbage.tmp),
        ("set aside", garbage.set_aside),
        ("under names that are none of a repository's", garbage.strange),
    ]
    for what, names in sorts:
        if names:
            some = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
            out().print(f"garbage: {len(names)} {what}: {some}", soft_wrap=True)
    if garbage.count and not garbage.certain:
        out().print("garbage: perhaps; what cannot be read may refer to it.")
