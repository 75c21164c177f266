"""`freezeframe recover`: undo what interrupted captures left on this host."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from freezeframe.cli.address import bus_settings
from freezeframe.cli.output import AsJson, out, print_json, table
from freezeframe.errors import EXIT_FAILED, EXIT_UNREACHABLE
from workers import recovery
from workers.host import open_host
from workers.recovery import State

_MEANING = {
    State.UNDONE: "undone",
    State.RUNNING: "left alone: it still runs, and ends by itself; --force undoes it all the same",
    State.BUSY: "left alone: a step of it is at work on this host; try again when that has ended",
    State.UNKNOWN: "left alone: whether it still runs is not known. Start Redis and the workers (`freezeframe up`, say), which "
    "undo it if it has ended. --force undoes it all the same: only for a capture that no orchestrator goes on with",
    State.STUCK: "not all could be undone",
}


def recover(
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Do not ask Redis, and undo captures that still run too. For when Redis is gone for good.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Undo what interrupted captures left on this host: held guests, backup jobs, checkpoints, scratch files.

    The control worker does this at its start and every few seconds; here it is by hand. Doing it again changes nothing. A Redis
    that is not the workers' own ends no capture by not knowing it.

    Exit code: 0 all is undone that should be; 1 something could not be undone; 6 something was left alone because Redis does
    not answer, or does not know it.
    """
    found = recovery.recover(open_host(bus_settings()), force=force, by_hand=True)
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
