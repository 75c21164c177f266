"""Captures that are not in the repository: those under way, and those that have failed, from Redis as long as it keeps them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from freezeframe import known_run
from freezeframe.cli.address import bus_settings
from freezeframe.cli.failure import show_fault
from freezeframe.cli.following import exit_code, show_receipt, state_text
from freezeframe.cli.output import err, fields, out, when_text
from freezeframe.client import Client, UnreachableError
from freezeframe.contract.words import RunState
from freezeframe.errors import EXIT_NOT_FOUND, FreezeframeError
from freezeframe.known_run import KnownRun
from freezeframe.printable import one_line
from freezeframe.repository.errors import CaptureNotFound, RepositoryError, is_store_trouble


class NoProofError(FreezeframeError):
    """A capture that was not sealed has no proof."""

    code = "no-proof"
    exit_code = EXIT_NOT_FOUND


def run_instead(word: str, missing: CaptureNotFound) -> KnownRun:
    """Return the run that `word` means, of which the repository has no capture. Raises `missing` if it means none.

    Raises UnreachableError while Redis is away: not known is not absent.

    A capture that was done is in no repository any more if it is not in this one: `missing` says so.
    """
    try:
        run = Client(bus_settings()).find_run(word)
    except UnreachableError as error:
        if not known_run.may_be_id(word):
            raise missing from error
        raise UnreachableError(
            f"{missing.message} Whether such a capture is under way or has failed is not known: {error.message}",
            advice=error.hint,
        ) from error
    if run is None or run.state is RunState.DONE:
        raise missing
    return run


def run_meanwhile(word: str, away: RepositoryError) -> KnownRun | None:
    """Return the run that `word` means while the repository is `away`, and warn of that; None if there is no such run to show.

    A run may wait for its seal for just that reason. One that is done is shown by its manifest, or not at all.
    """
    if not is_store_trouble(away):
        return None
    try:
        run = Client(bus_settings()).find_run(word)
    except FreezeframeError:  # what the repository has said comes first
        return None
    if run is None or run.state is RunState.DONE:
        return None
    said = f"This is what Redis has; the repository does not answer here: {away.message} {away.hint}"
    err().print(Text.assemble(("warning: ", "bold yellow"), one_line(said.strip())), soft_wrap=True)
    return run


def show_run(run: KnownRun, *, proof: bool) -> int:
    """Show how a run stands or has ended; the exit code that its capture has. Raises NoProofError if its proof is asked for."""
    if proof:
        state = "has failed" if run.state.ended else f"is {run.state}"
        raise NoProofError(
            f"Capture {run.capture_id} {state}: it has no proof.", advice=f"freezeframe captures show {run.capture_id}"
        )
    if run.receipt is not None:
        show_receipt(run.receipt, aside=out())
        return exit_code(run.receipt)
    guests = "every guest" if run.every_guest else ", ".join(run.guests)
    pairs: list[tuple[str, str | Text]] = [
        ("capture", run.capture_id),
        ("state", Text(f"{state_text(run.state, run.queued)} …", "cyan")),
        ("asked at", f"{when_text(run.asked_at)} UTC"),
        ("guests", guests),
    ]
    out().print(fields(pairs))
    for warning in run.warnings:
        out().print(Text.assemble(("warning: ", "bold yellow"), one_line(warning)), soft_wrap=True)
    for fault in run.faults:
        show_fault(fault, out())
    return 0


def told_failed(failed: Sequence[KnownRun]) -> str:
    """Return the line that tells of failed captures where they are not listed."""
    count = "A capture has" if len(failed) == 1 else f"{len(failed)} captures have"
    return (
        f"{count} failed lately: `freezeframe captures --failed` lists them, `freezeframe captures show "
        f"{failed[0].capture_id}` says why the last one did."
    )


def run_document(run: KnownRun) -> dict[str, object]:
    return {
        "capture_id": run.capture_id,
        "state": run.state,
        "queued": run.queued,
        "asked_at": run.asked_at,
        "guests": run.guests,
        "every_guest": run.every_guest,
        "group": run.group,
        "tags": run.tags,
        "faults": run.faults,
        "warnings": run.warnings,
        "receipt": run.receipt,
    }
