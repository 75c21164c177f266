"""`freezeframe`: the root of all verbs."""

from __future__ import annotations

import gc
import logging

import typer

from freezeframe import log
from freezeframe.cli.encoding import escape_unknown_characters
from freezeframe.cli.verbs import Verbs

app = typer.Typer(
    name="freezeframe",
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # `failure` shows errors; nothing is left for typer's own tracebacks
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root() -> None:
    """Capture many running libvirt guests, over many hosts, at one provable instant.

    To begin: `freezeframe up` starts everything on this machine; in another terminal `freezeframe guests` lists what
    can be captured, `freezeframe capture NAME` captures it, and `freezeframe captures` lists what you have.
    """
    # Whatever a library says belongs to stderr; stdout is the verb's. Services set their own level.
    log.configure(logging.WARNING)


def main() -> None:
    """The entry point."""
    escape_unknown_characters()
    try:
        app(prog_name="freezeframe")
    finally:
        # Python looks through all that there is for garbage before it ends, which takes a command a tenth of a second
        gc.freeze()
