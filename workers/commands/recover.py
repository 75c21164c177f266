"""`freezeframe recover`: undo what interrupted captures left on this host."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from freezeframe.cli.output import AsJson, out, print_json, table
from freezeframe.errors import EXIT_FAILED, EXIT_UNREACHABLE
from workers import recovery
from workers.host import this_host
from workers.recovery import State

_MEANING = {
    State.UNDONE: "undone",
    State.RUNNING: "left alone: it still runs, and ends by itself; --force undoes it all the same",
    State.BUSY: "left alone: a step of it is at work on this host; try again when that has ended",
    State.UNKNOWN: "left alone: nobody knows whether it still runs; start Redis, or undo it all the same with --force",
    State.STUCK: "not all could be undone",
}


def recover(
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Undo captures that Redis says are still running, too. For when Redis is gone."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Undo what interrupted captures left on this host: held guests, backup jobs, checkpoints, scratch files.

    The control worker does this at its start; here it is by hand. Doing it again changes nothing.

    Exit code: 0 all is undone that should be; 1 something could not be undone; 6 something was left alone because Redis does
    not answer.
    """
    found = recovery.recover(this_host(), force=force)
    if as_json:
        print_json({"captures": [dataclasses.asdict(one) for one in found]})
    elif not found:
        out().print("Nothing to undo: no interrupted capture on this host.")
    else:
        rows = [(one.capture_id, "\n".join([_MEANING[one.state], *one.problems])) for one in found]
        out().print(table(["capture", "what became of it"], rows))
    states = {one.state for one in found}
    if State.STUCK in states:
        raise typer.Exit(EXIT_FAILED)
    if State.UNKNOWN in states:
        raise typer.Exit(EXIT_UNREACHABLE)
