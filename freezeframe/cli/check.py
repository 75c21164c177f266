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
from freezeframe.printable import one_line
from freezeframe.repository import Repository
from freezeframe.repository.chain import read_chain
from freezeframe.repository.check import CheckReport, Garbage
from freezeframe.repository.check import check as check_structure
from freezeframe.repository.errors import NewerFormat, RepositoryError
from freezeframe.repository.freshness import advice_for, against_pin, holes, sentences_of
from freezeframe.repository.temporary import check_temporary

#: Names of each sort that are shown to people; JSON has all.
_SHOWN = 3


def check(*, as_json: AsJson = False) -> None:
    """Check the structure of the whole repository without reading a chunk: config, key slots, manifests, indexes, and that
    every chunk is there. Nothing is changed.

    What nothing refers to is garbage: left by a capture that died, or of one that is under way. It is told, and is no damage.
    Whether chunks are what was captured, `freezeframe verify` finds out.

    Exit code: 0 sound; 7 damaged, with every capture that is affected named, or captures are missing that nobody has forgotten;
    5 something was written by a newer version, which this one does not understand, or is not given by the storage.
    """
    check_temporary()
    opened = open_repository(for_hours=True)
    report = _check(opened)
    if not as_json:
        _show(report)  # reading the chain may take long, and fail
    missing, unclear = _compared(opened)
    if as_json:
        extra = {
            "sound": _is_sound(report) and not missing and not unclear,
            "damaged_captures": report.damaged_captures,
            "rolled_back": missing,
            "not_compared": [one.message for one in unclear],
        }
        print_json({**extra, **dataclasses.asdict(report)})
    else:
        _show_missing(opened, missing)
        _show_unclear([one for one in unclear if one.message not in {*report.newer, *report.unreadable}])
        _show_sound(report, whole=not missing and not unclear)
    if missing or not report.sound:
        raise typer.Exit(EXIT_DAMAGED)
    if unclear or not _is_sound(report):
        raise typer.Exit(EXIT_REPOSITORY)


def _compared(opened: Repository) -> tuple[list[str], list[RepositoryError]]:
    """Return what shows that captures are missing, and why more cannot be told. Damaged manifests are left to the report."""
    known = pinned(opened)
    try:
        chain = read_chain(opened)
    except RepositoryError as error:
        return [], [error]
    doubts = [one for one in holes(chain) if not one.of_damage]
    return [
        *(against_pin(chain, known.pin) if known.pin else ()),
        *sentences_of(doubts, known.accepted),
    ], chain.unclear


def _is_sound(report: CheckReport) -> bool:
    return report.sound and not report.newer and not report.unreadable


def _check(repository: Repository) -> CheckReport:
    with showing(amount=lambda count: f"{count:.0f} folders") as progress:
        return check_structure(repository, lambda done: progress.move("check", done, 256))


def _show_missing(opened: Repository, sentences: Sequence[str]) -> None:
    for message in sentences:
        _tell(("rolled back: ", "bold red"), message)
    if sentences:
        err().print(f"  → {one_line(advice_for(opened.address))}", soft_wrap=True)


def _show_unclear(unclear: Sequence[RepositoryError]) -> None:
    for error in unclear:
        _tell(NEWER if isinstance(error, NewerFormat) else ("unreadable: ", "bold red"), error.message)
    for advice in dict.fromkeys(error.hint for error in unclear):
        err().print(f"  → {one_line(advice)}", soft_wrap=True)


def _show_sound(report: CheckReport, *, whole: bool) -> None:
    if _is_sound(report):
        looked = f"captures: {len(report.captures)}, indexes: {report.indexes_read}, chunks: {report.chunks_found}, all there"
        word = ("sound", "bold green") if whole else ("all objects sound", "bold")
        out().print(Text.assemble(word, f": {looked}"))


def _tell(word: tuple[str, str], message: str) -> None:
    err().print(Text.assemble(word, one_line(message)), soft_wrap=True)


def _show(report: CheckReport) -> None:
    _show_garbage(report.garbage)
    for message in report.newer:
        _tell(NEWER, message)
    if report.newer:
        err().print(f"  → {NewerFormat.advice}", soft_wrap=True)
    for message in report.notes:
        _tell(("note: ", "bold yellow"), message)
    for message in report.unreadable:
        _tell(("unreadable: ", "bold red"), message)
    for message in (*report.key_slots, *report.manifests):
        _tell(("damaged: ", "bold red"), message)
    for damage in (*report.indexes, *report.chunks):
        aside = " (set aside)" if damage.set_aside else ""
        said = f"{one_line(damage.reason)}{aside}{places_text(damage)}"
        err().print(Text.assemble(("damaged: ", "bold red"), said), soft_wrap=True)
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
            some = ", ".join(map(one_line, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
            out().print(f"garbage: {len(names)} {what}: {some}", soft_wrap=True)
    if garbage.count and not garbage.certain:
        out().print("garbage: perhaps; what cannot be read may refer to it.")
