"""Which captures a verb is about: `--guest`, `--group` and `--tag`, the same wherever they are."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError

from freezeframe.cli.completion import guest_names
from freezeframe.contract.retention import Selection

_PANEL = "Which captures"

GuestFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--guest",
        metavar="GUEST",
        help="Only captures that have this guest, by name or UUID; may be repeated, for any of them.",
        autocompletion=guest_names,
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
GroupFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        metavar="GROUP",
        help="Only captures of this group; may be repeated, for any of them.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
TagFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG[,TAG…]",
        help="Only captures with this tag, or with all of several; may be repeated, for any of them.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def selection_of(guests: list[str] | None, groups: list[str] | None, tags: list[str] | None) -> Selection:
    """Raises BadParameter for what cannot be a guest, a group or a tag."""
    try:
        return Selection.model_validate(
            {
                "guests": tuple(guests or ()),
                "groups": tuple(groups or ()),
                "tags": tuple(frozenset(one.split(",")) for one in tags or ()),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{first['input']!r} cannot be one of the {first['loc'][0]} of a capture") from error
