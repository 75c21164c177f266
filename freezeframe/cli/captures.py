"""`freezeframe captures`: what there is to bring back, and what is on its way."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from freezeframe.cli.address import bus_settings
from freezeframe.cli.completion import capture_ids
from freezeframe.cli.detail import capture_document, show_capture
from freezeframe.cli.following import consistency_text
from freezeframe.cli.output import AsJson, bytes_text, ms_text, out, print_json, table, when_text
from freezeframe.cli.proof import show_proof
from freezeframe.cli.proof_document import proof_document
from freezeframe.cli.secret import open_repository
from freezeframe.cli.selection import GroupFilter, GuestFilter, TagFilter, selection_of
from freezeframe.cli.suspects import show_suspects
from freezeframe.cli.verbs import VerbGroup
from freezeframe.cli.verified import show_unreadable
from freezeframe.client import ActiveRun, Client, UnreachableError
from freezeframe.contract.retention import Selection
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import Manifest
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.errors import ManifestUnreadable, NewerFormat

#: Seconds for Redis to answer: it only adds what is on its way, the captures are in the repository.
PATIENCE_S = 0.5

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
    as_json: AsJson = False,
) -> None:
    """List captures, newest first; `captures show` tells everything about one.

    The label is what is proven: group, every guest shows the same instant; guest, each one of its own; crash, none was
    held. Any verb takes the beginning of an id.

    They are read from the repository; captures that are on their way are shown as well if Redis answers.
    """
    if ctx.invoked_subcommand is not None:
        return
    selection = selection_of(guest, group, tag)
    unreadable: list[ManifestUnreadable] = []
    repository = open_repository()
    found = repository.manifests(on_damaged=unreadable.append)
    sealed = [one for one in found if Candidate.of(one).selected_by(selection)]
    known = {one.capture_id for one in found}
    suspects = repository.suspects.all()
    active = [run for run in _active_runs() if run.capture_id not in known and _will_be(run, selection)]
    if as_json:
        documents = [one.model_dump(mode="json", exclude={"format"}) for one in suspects]
        active_documents = [_active_document(run) for run in active]
        damaged = [one.message for one in unreadable if not isinstance(one, NewerFormat)]
        newer = [one.message for one in unreadable if isinstance(one, NewerFormat)]
        document = {"active": active_documents, "captures": sealed, "damaged": damaged, "newer": newer}
        print_json({**document, "suspects": documents})
        return
    for error in unreadable:
        show_unreadable(error)
    if not active and not sealed:
        out().print("No captures.")
        return
    _show(active, sealed, known | {run.capture_id for run in active})
    show_suspects(suspects)


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
    """Show all that is known of one capture: guests, disks, hold windows, and whether it shows one instant."""
    repository = open_repository()
    manifest = repository.manifest(capture)
    suspects = [one for one in repository.suspects.all() if one.capture_id == manifest.capture_id]
    if as_json:
        print_json(proof_document(manifest) if proof else capture_document(manifest))
    elif proof:
        show_proof(manifest)
    else:
        show_capture(manifest)
        show_suspects(suspects)


def _active_runs() -> list[ActiveRun]:
    try:
        return Client(bus_settings(PATIENCE_S)).active_runs()
    except UnreachableError:
        return []


def _will_be(run: ActiveRun, selection: Selection) -> bool:
    guests = None if run.every_guest else {word for one in run.guests for word in (one, one.rpartition("@")[0])}
    return selection.has(guests, run.group, run.tags)


def _show(active: list[ActiveRun], sealed: list[Manifest], known: set[str]) -> None:
    console = out()
    length = LONG_ID if console.width >= WIDE else _unique_length(known)
    rows = [*map(_active_row, active), *map(_row, sealed)]
    shown = [[str(row[0])[:length], *row[1:]] for row in rows]
    whole = [column for column in _COLUMNS if column not in {"guests", "tags"}]
    console.print(table(_COLUMNS, shown, right=["held", "size", "stored"], whole=whole))


def _unique_length(known: set[str]) -> int:
    """How much of each id tells it from all others; every verb takes the beginning of an id."""
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


def _active_row(run: ActiveRun) -> list[str | Text]:
    guests = "every guest" if run.every_guest else _names(list(run.guests))
    guests_and_state = Text.assemble(guests, "\n", (f"{run.state} …", "cyan"))
    labels = _labels(run.group, run.tags)
    return [run.capture_id, _minute(run.asked_at), guests_and_state, "–", "–", "–", "–", "–", labels]


def _active_document(run: ActiveRun) -> dict[str, object]:
    return {
        "capture_id": run.capture_id,
        "state": run.state,
        "asked_at": run.asked_at,
        "guests": run.guests,
        "every_guest": run.every_guest,
        "group": run.group,
        "tags": run.tags,
    }


def _minute(moment: datetime) -> str:
    return when_text(moment).rpartition(":")[0]


def _names(guests: list[str], most: int = 3) -> str:
    """Names as far as they fit into a column, and how many more."""
    more = f" and {len(guests) - most} more" if len(guests) > most else ""
    return ", ".join(guests[:most]) + more


def _labels(group: str | None, tags: tuple[str, ...]) -> str:
    return ", ".join([*([f"group {group}"] if group else []), *tags]) or "–"
