"""Options that say which repository is expected, for a machine that has never seen it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from freezeframe.repository.expected import Expected

RepositoryId = Annotated[
    str | None,
    typer.Option(
        "--repository-id",
        metavar="UUID",
        help="The repository must have this id, which `freezeframe repo pin` shows where it is known.",
    ),
]
IsEncrypted = Annotated[
    bool,
    typer.Option("--encrypted", help="The repository must be encrypted. Say so on a machine that has never seen it."),
]


IsAuthenticated = Annotated[
    bool,
    typer.Option(
        "--authenticated",
        help="The repository must be authenticated, as an encrypted one is. Say so on a machine that has never seen it.",
    ),
]


def stated(repository_id: str | None, *, encrypted: bool, authenticated: bool) -> Expected:
    """Return what the options say. Raises typer.BadParameter."""
    try:
        wanted = None if repository_id is None else UUID(repository_id)
    except ValueError as error:
        raise typer.BadParameter(f"{repository_id!r} is no id of a repository") from error
    advice = "Check the address, and restore nothing before you know."
    return Expected(wanted, encrypted or None, authenticated or None, "the options", advice)
