"""`freezeframe gc`: free what no capture refers to, beside whoever is at work."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from freezeframe.cli.output import AsJson, bytes_text, duration_text, err, fields, out, print_json, when_text
from freezeframe.cli.progress import showing
from freezeframe.cli.secret import open_repository
from freezeframe.repository import Repository
from freezeframe.repository.copying import PROGRAM as COPY
from freezeframe.repository.garbage import GRACE, CollectReport, Held, Progress, Tally, collect
from freezeframe.repository.session import Session
from freezeframe.repository.temporary import check_temporary

#: Below that listings that NFS clients remember and processes that are stopped for a while may well be wrong.
LEAST_GRACE = timedelta(hours=1)

#: The longest grace: a century, which no clock reaches the end of.
MOST_GRACE = timedelta(days=36500)

_GRACE = re.compile(r"(\d{1,12})\s*(s|min|h|d)?", re.ASCII)
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


def _grace(text: str) -> timedelta:
    """`24h`, `90min`, `0`."""
    match = _GRACE.fullmatch(text.strip())
    if match is None or (match[2] is None and int(match[1])):
        raise typer.BadParameter("a time is a number and a unit, as in 24h, 90min or 2d")
    try:
        grace = timedelta(**{_UNITS[match[2] or "s"]: int(match[1])})
    except OverflowError:
        grace = timedelta.max
    if grace > MOST_GRACE:
        raise typer.BadParameter(f"a time is at most {MOST_GRACE.days}d")
    return grace


def gc(
    grace: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="How long what nobody refers to is kept: condemned first, deleted by a later run. Longer than any process is "
            "suspended.",
        ),
    ] = f"{GRACE // timedelta(hours=1)}h",
    *,
    nobody_else_writes: Annotated[
        bool,
        typer.Option(
            "--nobody-else-writes",
            help="Allow less than an hour: you know that no other program writes to the repository, or collects in it, "
            "until this has ended.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Free what no capture refers to, while captures go on. To be run daily, say; `freezeframe forget` makes the garbage.

    What nobody refers to is condemned first: moved aside, where no new capture will rely on it and every reader still finds
    it. A later run deletes it, when grace is over and every capture has ended that was under way.

    Exit code: 0 done; 5 the repository cannot be read or written, or this host's clock is far from the store's; 7 stopped
    because something is damaged, so that nobody can say what is needed: nothing was changed.
    """
    kept = _grace(grace)
    if kept < LEAST_GRACE and not nobody_else_writes:
        raise typer.BadParameter(
            f"less than {duration_text(LEAST_GRACE.total_seconds())} is safe only if nobody else writes: "
            "then say --nobody-else-writes too"
        )
    check_temporary()
    repository = open_repository(for_hours=True)
    report = _collect(repository, kept, dry_run=dry_run)
    if as_json:
        print_json(_document(report))
    else:
        _show(report)


def _collect(repository: Repository, grace: timedelta, *, dry_run: bool) -> CollectReport:
    with showing(amount=lambda count: f"{count:.0f}") as progress:

        def move(now: Progress) -> None:
            progress.move(now.phase, now.done, now.total)

        return collect(repository, grace=grace, dry_run=dry_run, on_progress=move)


def _document(report: CollectReport) -> dict[str, object]:
    document = dataclasses.asdict(report)
    document["sessions"] = [session.model_dump(mode="json") for session in report.sessions]
    document["held"] = [{**dataclasses.asdict(one), "until": one.until.isoformat()} for one in report.held]
    document["free_at"] = report.free_at.isoformat() if report.free_at else None
    return document


def _show(report: CollectReport) -> None:
    would = "would be " if report.dry_run else ""
    rows = [
        (f"{would}condemned", report.condemned, "nobody refers to them"),
        (f"{would}taken over", report.taken_over, "from runs that did not finish"),
        (f"{would}moved back", report.restored, "condemned, and a capture refers to them"),
        (f"{would}deleted", report.deleted, "condemned by earlier runs"),
        (f"{would}deleted", report.temporary, "left in tmp/ by writers that died"),
        ("waiting", report.waiting, "condemned by earlier runs, and not to be deleted yet"),
        ("young", report.young, f"nobody refers to them yet{_youth(report)}"),
    ]
    shown = [("kept", f"{report.chunks_kept} chunks of {report.captures} captures")]
    shown += [(what, f"{_tally(tally)}: {why}") for what, tally, why in rows if tally.objects]
    out().print(fields(shown))
    for session in report.sessions:
        if session.ended_at is None:
            err().print(_session(session, report), soft_wrap=True)
    for held in report.held:
        err().print(_held(held), soft_wrap=True)
    out().print(_last_line(report), soft_wrap=True)


def _tally(tally: Tally) -> str:
    return f"{tally.objects} object{'' if tally.objects == 1 else 's'}, {bytes_text(tally.bytes)}"


def _youth(report: CollectReport) -> str:
    """Return the end of a sentence: the oldest capture under way that may need what is too young; "" if there is none."""
    oldest = min(report.sessions, key=lambda one: one.begun_at, default=None)
    if oldest is None or datetime.now(UTC) - oldest.begun_at < timedelta(seconds=report.grace_s):
        return ""
    return f"; {_work(oldest)}, begun {when_text(oldest.begun_at)} UTC, may"


def _work(session: Session) -> str:
    """`capture 01J…`; a session of a copy has an id that is no capture's."""
    return f"{'copy' if session.program == COPY else 'capture'} {session.session_id}"


def _session(session: Session, report: CollectReport) -> Text:
    holds_up = " It holds up what is condemned." if session.session_id in report.hindering else ""
    return Text.assemble(
        ("under way: ", "bold yellow"),
        f"{_work(session)}, begun {when_text(session.begun_at)} UTC on {session.host}, at the latest until "
        f"{when_text(session.expires_at)} UTC.{holds_up}",
    )


def _held(held: Held) -> Text:
    return Text.assemble(
        ("held up: ", "bold yellow"),
        f"{held.name} cannot be read, and a capture under way may need any chunk that it refers to: {held.reason} No chunk "
        f"and no index is deleted by a run before {when_text(held.until)} UTC. Nothing needs to be done: a later run passes "
        "it over.",
    )


def _last_line(report: CollectReport) -> str:
    """When the room will be free."""
    freed = bytes_text(report.deleted.bytes + report.temporary.bytes)
    now = f"{freed} {'would be' if report.dry_run else 'were'} freed now"
    if report.free_at is None:
        return f"{now}; nothing is condemned."
    ended = ""
    if report.hindering:
        captures = ", ".join(report.hindering)
        ended = f" and {duration_text(report.grace_s)} after the end of {captures}"
    later = f"{bytes_text(report.to_be_freed.bytes)} can be freed by a run after {when_text(report.free_at)} UTC{ended}"
    return f"{now}; {later}."
