"""`freezeframe captures`: what there is to bring back, and what is on its way."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.text import Text

from freezeframe.cli.address import bus_settings
from freezeframe.cli.cancel import cancel
from freezeframe.cli.completion import capture_ids
from freezeframe.cli.detail import capture_document, show_capture
from freezeframe.cli.following import consistency_text, exit_code
from freezeframe.cli.output import AsJson, bytes_text, err, ms_text, out, print_json, table, when_text
from freezeframe.cli.proof import show_proof
from freezeframe.cli.proof_document import proof_document
from freezeframe.cli.secret import open_repository
from freezeframe.cli.selection import GroupFilter, GuestFilter, TagFilter, selection_of
from freezeframe.cli.suspects import Marked, show_suspects
from freezeframe.cli.unsealed import run_document, run_instead, run_meanwhile, show_run, told_failed
from freezeframe.cli.verbs import VerbGroup
from freezeframe.cli.verified import show_unreadable, unreadable_document
from freezeframe.client import Client, UnreachableError
from freezeframe.contract.retention import Selection
from freezeframe.contract.words import CaptureKind
from freezeframe.known_run import KnownRun, KnownRuns, NewerRunError
from freezeframe.printable import one_line
from freezeframe.repository import Manifest
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.errors import CaptureNotFound, ManifestUnreadable, RepositoryError

#: Seconds for Redis to answer: it only adds what is on its way, the captures are in the repository.
PATIENCE_S = 0.5

#: The runs while Redis does not answer: they are not known, which is not none.
UNKNOWN: Final = KnownRuns()

#: Characters of an id: all of a ULID; and where there is little room, at least its time.
LONG_ID, SHORT_ID = 26, 10
#: Columns from which on ids are shown in full.
WIDE = 120

_COLUMNS = ("id", "when (UTC)", "guests", "kind", "label", "held", "size", "stored", "tags")
#: What the table says of how much was read.
_KINDS = {CaptureKind.FULL: "full", CaptureKind.INCREMENTAL: "incr."}

captures = typer.Typer(add_completion=False, cls=VerbGroup, invoke_without_command=True)


@captures.callback()
def list_captures(
    ctx: typer.Context,
    *,
    guest: GuestFilter = None,
    group: GroupFilter = None,
    tag: TagFilter = None,
    with_failed: Annotated[
        bool,
        typer.Option("--failed", help="Also those that have failed, as long as Redis knows them: 7 days, unless set."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List captures, newest first; `captures show` tells everything about one.

    The label is what is proven: group, every guest shows the same instant; guest, each one of its own; crash, neither: as
    after a power cut. A guest that was held is crash too if something on its disks was not still, or its hold is not proven.
    Any verb takes the beginning of an id.

    They are read from the repository; captures that are on their way or have failed are shown as well if Redis answers. A
    warning says so if it does not, and which captures there are that cannot be read, or by a newer version only.
    """
    if ctx.invoked_subcommand is not None:
        return
    selection = selection_of(guest, group, tag)
    unreadable: list[ManifestUnreadable] = []
    repository = open_repository()
    found = repository.manifests(on_damaged=unreadable.append)
    sealed = [one for one in found if Candidate.of(one).selected_by(selection)]
    known = {one.capture_id for one in found}
    marked = Marked.of(repository, found)
    runs = _runs(known)
    active, failed = ([run for run in some if _will_be(run, selection)] for some in (runs.active, runs.failed))
    if as_json:
        document = {"captures": sealed, **unreadable_document(unreadable), **marked.document()}
        print_json({**_run_documents(runs, active, failed), **document})
        return
    for error in unreadable:
        show_unreadable(error)
    shown = [*active, *(failed if with_failed else ())]
    if shown or sealed:
        _show(shown, sealed, known | {run.capture_id for run in (*active, *failed)})
    else:
        out().print("The repository has no captures." if runs is UNKNOWN or runs.unread else "No captures.")
    if failed and not with_failed:
        out().print(told_failed(failed), soft_wrap=True)
    show_suspects(marked)


captures.command("cancel")(cancel)


@captures.command("show")
def show(
    capture: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A capture's id, the beginning of one, or `latest`.",
            autocompletion=capture_ids,
            show_default=False,
        ),
    ],
    *,
    proof: Annotated[
        bool, typer.Option("--proof", help="Explain the proof of its instant, with every step of every guest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one capture: guests, disks, hold windows, and whether it shows one instant.

    Of one that has failed, why, and with the exit code that it had; of one that is on its way, how it stands, also while the
    repository is away. Redis keeps that for 7 days, unless set.
    """
    try:
        repository = open_repository()
        manifest = repository.manifest(capture)
    except CaptureNotFound as error:
        raise typer.Exit(_show_run(run_instead(capture, error), proof=proof, as_json=as_json)) from error
    except RepositoryError as error:
        run = None if proof else run_meanwhile(capture, error)
        if run is None:
            raise
        raise typer.Exit(_show_run(run, proof=proof, as_json=as_json)) from error
    marked = Marked.of(repository, [manifest]).of_one(manifest.capture_id)
    if as_json:
        print_json(proof_document(manifest) if proof else capture_document(manifest))
    elif proof:
        show_proof(manifest)
    else:
        show_capture(manifest)
        show_suspects(marked)


def _show_run(run: KnownRun, *, proof: bool, as_json: bool) -> int:
    if as_json and not proof:
        print_json(run_document(run))
        return exit_code(run.receipt) if run.receipt is not None else 0
    return show_run(run, proof=proof)


def _runs(known: set[str]) -> KnownRuns:
    """Return the runs of no capture that is known, with a warning for each that cannot be read; UNKNOWN while Redis is away."""
    try:
        runs = Client(bus_settings(PATIENCE_S)).runs(known)
    except UnreachableError as error:
        _warn(f"Captures that have failed, or are on their way, are not known: {error.message} {error.hint}")
        return UNKNOWN
    for run in runs.unread:
        _warn(f"{run} {NewerRunError.advice}")
    return runs


def _warn(text: str) -> None:
    err().print(Text.assemble(("warning: ", "bold yellow"), one_line(text.strip())), soft_wrap=True)


def _run_documents(runs: KnownRuns, active: list[KnownRun], failed: list[KnownRun]) -> dict[str, object]:
    """Return what programs are told of runs: null is not known, and nothing is none."""
    if runs is UNKNOWN:
        return {"active": None, "failed": None, "unread": None}
    return {
        "active": [run_document(run) for run in active],
        "failed": [run_document(run) for run in failed],
        "unread": [asdict(run) for run in runs.unread],
    }


def _will_be(run: KnownRun, selection: Selection) -> bool:
    guests = None if run.every_guest else {word for one in run.guests for word in (one, one.rpartition("@")[0])}
    return selection.has(guests, run.group, run.tags)


def _show(runs: list[KnownRun], sealed: list[Manifest], known: set[str]) -> None:
    console = out()
    length = LONG_ID if console.width >= WIDE else _unique_length(known)
    rows = [*map(_run_row, runs), *map(_row, sealed)]
    shown = [[str(row[0])[:length], *row[1:]] for row in rows]
    whole = [column for column in _COLUMNS if column not in {"guests", "tags"}]
    console.print(table(_COLUMNS, shown, right=["held", "size", "stored"], whole=whole))


def _unique_length(known: set[str]) -> int:
    """Return the length at which ids differ from each other; every verb takes the beginning of an id."""
    lengths = range(SHORT_ID, LONG_ID)
    return next((length for length in lengths if len({one[:length] for one in known}) == len(known)), LONG_ID)


def _row(manifest: Manifest) -> list[str | Text]:
    disks = [disk for _, disk in manifest.disks()]
    held = [guest.hold_ms for guest in manifest.guests if guest.hold_ms is not None]
    return [
        manifest.capture_id,
        _minute(manifest.instant.at),
        _names([guest.name for guest in manifest.guests]),
        _KINDS[manifest.kind],
        consistency_text(manifest.consistency),
        ms_text(max(held, default=None)),
        bytes_text(sum(disk.size_bytes for disk in disks)),
        bytes_text(sum(disk.bytes_stored for disk in disks)),
        _labels(manifest.group, manifest.tags),
    ]


def _run_row(run: KnownRun) -> list[str | Text]:
    guests = "every guest" if run.every_guest else _names(list(run.guests))
    state = ("failed", "red") if run.state.ended else (f"{run.state} …", "cyan")
    guests_and_state = Text.assemble(guests, "\n", state)
    labels = _labels(run.group, run.tags)
    return [run.capture_id, _minute(run.asked_at), guests_and_state, "–", "–", "–", "–", "–", labels]


def _minute(moment: datetime) -> str:
    return when_text(moment).rpartition(":")[0]


def _names(guests: list[str], most: int = 3) -> str:
    """Names as far as they fit into a column, and how many more."""
    more = f" and {len(guests) - most} more" if len(guests) > most else ""
    return ", ".join(guests[:most]) + more


def _labels(group: str | None, tags: tuple[str, ...]) -> str:
    return ", ".join([*([f"group {group}"] if group else []), *tags]) or "–"
