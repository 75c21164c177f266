"""`freezeframe repo copy`: captures of a repository that is in use, into a copy of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from freezeframe import known_repositories
from freezeframe.cli.completion import capture_ids
from freezeframe.cli.output import AsJson, bytes_text, err, out, print_json
from freezeframe.cli.progress import Shown, showing
from freezeframe.cli.secret import by_settings, known_file, open_repository, remember
from freezeframe.cli.selection import GroupFilter, GuestFilter, TagFilter, selection_of
from freezeframe.cli.unwinding import unwinding
from freezeframe.cli.verdicts import show_warnings
from freezeframe.contract.retention import Selection
from freezeframe.errors import EXIT_DAMAGED, EXIT_REPOSITORY
from freezeframe.printable import one_line
from freezeframe.repository import Repository
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.copying import CopyReport, Left, Progress, Wanted, Why, create_copy, open_copy
from freezeframe.repository.copying import copy as copy_captures
from freezeframe.repository.copying.twin import check_elsewhere
from freezeframe.repository.errors import DeletesRefused, RepositoryNotFound
from freezeframe.repository.store.address import (
    create_store,
    is_same_place,
    open_store,
    patience_with,
    transfer_patience,
)
from freezeframe.repository.store.backend import Store
from freezeframe.repository.temporary import check_temporary
from freezeframe.settings import RepositorySettings, load

_STYLES = {Why.DAMAGED: "bold red", Why.NEWER: "bold yellow", Why.UNREADABLE: "bold red"}


def copy(
    destination: Annotated[
        str,
        typer.Argument(metavar="DESTINATION", help="The copy: a directory or s3://bucket/prefix.", show_default=False),
    ],
    capture: Annotated[
        list[str] | None,
        typer.Option(
            "--capture",
            metavar="ID",
            help="Only this capture: its id, the beginning of it, or `latest`; may be repeated. It is copied even if the copy "
            "has forgotten it; of one that is there already what the copy has lost is copied again.",
            autocompletion=capture_ids,
            show_default=False,
        ),
    ] = None,
    guest: GuestFilter = None,
    group: GroupFilter = None,
    tag: TagFilter = None,
    repository: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The repository to copy, if not the one of the settings."),
    ] = None,
    *,
    create: Annotated[
        bool,
        typer.Option(
            "--create", help="Make the copy if there is none yet. Without it a mount that is missing is not filled."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say which captures would be copied, and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy captures into a copy of the repository, while others capture, forget and collect garbage.

    The copy has the same id, the same keys and the same captures; restore from it, check it and verify it like any other, with
    `--repository` or FREEZEFRAME_REPOSITORY. Capture into one of the two only. Each run adds what is new, and goes on where
    an earlier one was interrupted. What is forgotten here stays in the copy, which has `forget` and `gc` of its own.

    Everything is verified while it is read. A capture that is damaged here is left out and named. Of captures that the copy has
    already only the manifest is read: `freezeframe verify` with FREEZEFRAME_REPOSITORY verifies a copy.

    Exit code: 0 done; 3 refused, nothing was written: that is no copy of this repository; 5 something was written by a newer
    version or is not given by the storage, and was left out; 7 the same, because it is damaged.
    """
    selection = selection_of(guest, group, tag)
    if capture and selection != Selection():
        raise typer.BadParameter("name captures, or say which with --guest, --group and --tag, and not both")
    check_temporary()
    source = open_repository(repository, for_hours=True)
    check_elsewhere(source.address, destination)
    if not dry_run:
        _check_may_replace(destination)
    there = _there(source, destination, create=create)
    wanted = _wanted(source, capture or [], selection)
    with unwinding(), showing() as progress:
        report = copy_captures(
            source,
            there,
            lambda: _make(source, destination),
            wanted,
            dry_run=dry_run,
            on_progress=_Told(progress).tell,
        )
    report.destination = report.destination or destination
    if as_json:
        print_json({"whole": report.whole, **dataclasses.asdict(report)})
    else:
        _show(report)
    if not report.whole:
        raise typer.Exit(EXIT_DAMAGED if report.damaged else EXIT_REPOSITORY)


def _check_may_replace(destination: str) -> None:
    """Raise DeletesRefused if the copy is the repository from which this machine takes nothing away."""
    settings = load(RepositorySettings)
    if not settings.repository_deletes and is_same_place(destination, settings.repository):
        raise DeletesRefused(
            f"The verb repo copy replaces objects of {destination}, and this machine replaces none there."
        )


def _there(source: Repository, destination: str, *, create: bool) -> Repository | None:
    """Return the copy that is there; None if it is to be made."""
    try:
        return _opened(source, destination)
    except RepositoryNotFound as error:
        if not create:
            advice = "Check that its file system is mounted. If there is no copy yet: --create makes one."
            raise RepositoryNotFound(error.message, advice=advice) from error
        return None


def _opened(source: Repository, destination: str) -> Repository:
    """Open the copy, and wait longer for object storage that is away from then on."""
    patience = patience_with(destination)
    store = open_store(destination, patience=patience)
    _check_expected(source, store)
    opened = open_copy(store, source)
    patience.seconds = transfer_patience(destination).seconds
    return opened


def _make(source: Repository, destination: str) -> Repository:
    store = create_store(destination, authenticated=source.config.authenticated)
    _check_expected(source, store)
    create_copy(store, source)
    made = _opened(source, destination)
    if made.config.authenticated:
        remember(made)
    return made


def _check_expected(source: Repository, store: Store) -> None:
    """Raise WrongRepository, NotEncrypted or NotAuthenticated if no copy of the source is expected there."""
    settings = load(RepositorySettings)
    remembered = known_repositories.expected(known_file(settings), store.address)
    for one in (by_settings(settings, store.address), *remembered):
        one.check(source.config, store.address)


def _wanted(source: Repository, named: Sequence[str], selection: Selection) -> Wanted:
    if named:
        ids = {source.capture_id(one) for one in named}
        return Wanted(ids, ids)
    if selection == Selection():
        return Wanted()
    unread = set(source.capture_ids())  # one that cannot be read may be of these: it is wanted, so that it is told
    chosen = set()
    for one in source.each_manifest(on_damaged=lambda _: None):
        unread.discard(one.capture_id)
        if Candidate.of(one).selected_by(selection):
            chosen.add(one.capture_id)
    return Wanted(chosen | unread)


class _Told:
    """Progress, with a line for each capture."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._number = 0

    def tell(self, now: Progress) -> None:
        if now.number != self._number:
            self._number = now.number
            self._shown.say(f"capture {now.capture_id}, {now.number} of {now.captures}")
        self._shown.move(now.capture_id, now.bytes_done, now.bytes_total)


def _what_of(left: Left, report: CopyReport) -> str:
    if left.in_copy:
        return "is in the copy, and is not whole there"
    return f"{'would be' if report.dry_run else 'was'} left out"


def _show(report: CopyReport) -> None:
    for one in report.left:
        said = f"{one.capture_id} {_what_of(one, report)}. {one.reason}"
        err().print(Text.assemble((f"{one.why}: ", _STYLES[one.why]), one_line(said)), soft_wrap=True)
    for advice in dict.fromkeys(one.advice for one in report.left if one.advice):
        err().print(Text.assemble(("  → ", "bold"), one_line(advice)), soft_wrap=True)
    show_warnings(one_line(note) for note in report.notes)
    if report.gone:
        out().print(f"Forgotten while this copied: {', '.join(report.gone)}", soft_wrap=True)
    if report.forgotten_there:
        out().print(
            f"Not copied again, because the copy has forgotten them: {', '.join(report.forgotten_there)}",
            soft_wrap=True,
        )
    if report.dry_run:
        for capture_id in report.copied:
            out().print(f"would be copied: {capture_id}")
    counts = f"captures copied: {len(report.copied)}, there before: {len(report.there)}"
    if report.dry_run:
        counts = f"captures to be copied: {len(report.copied)}, there: {len(report.there)}"
    sent = f"; chunks sent: {report.chunks_copied}, {bytes_text(report.bytes_copied)}"
    out().print(f"{report.destination}: {counts}{'' if report.dry_run else sent}", soft_wrap=True, markup=False)
