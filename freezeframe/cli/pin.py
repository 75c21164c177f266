"""`freezeframe repo pin`: which repository is expected at an address, so that another one there is refused."""

from __future__ import annotations

from typing import Annotated

import typer

from freezeframe.cli.output import AsJson, fields, out, print_json
from freezeframe.cli.secret import known_file, open_repository, remember
from freezeframe.settings import RepositorySettings, load


def pin(
    *,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Take what is there now for the right one, whatever was expected of this address."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remember which repository is at this address, and show it. Another one there is refused from then on.

    What is opened with a passphrase or a key is remembered by itself.
    """
    opened = open_repository(accept=accept)
    remember(opened)
    file = known_file(load(RepositorySettings))
    shown = {"address": opened.address, "id": str(opened.config.id), "encrypted": opened.config.encrypted}
    if as_json:
        print_json({**shown, "remembered_in": str(file)})
        return
    out().print(
        fields(
            [
                ("repository", opened.address),
                ("id", str(opened.config.id)),
                ("encrypted", "yes" if opened.config.encrypted else "no"),
                ("remembered in", str(file)),
            ]
        )
    )
