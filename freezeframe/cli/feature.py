"""`freezeframe repo feature`: what a program must know to use the repository, and how to add to it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from freezeframe.cli.output import AsJson, out, print_json, table
from freezeframe.cli.secret import open_repository
from freezeframe.repository import Repository
from freezeframe.repository.features import FEATURES
from freezeframe.repository.switching import State, Switch, enable, switch_of

feature = typer.Typer(add_completion=False, help="Show the features of the repository, or switch one on.")


@feature.callback(invoke_without_command=True)
def show(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the features that this version knows, and which of them the repository has.

    A feature that is given by `freezeframe repo init` only cannot be switched on later.
    """
    if context.invoked_subcommand is not None:
        return
    opened = open_repository()
    switches = [switch_of(opened, name) for name in sorted(FEATURES)]
    if as_json:
        print_json({"features": [_document(one) for one in switches]})
        return
    rows = [(one.name, _state(one), FEATURES[one.name].meaning) for one in switches]
    out().print(table(["feature", "state", "meaning"], rows, whole=["feature"]))


@feature.command("enable")
def enable_feature(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The feature.")], *, as_json: AsJson = False
) -> None:
    """Switch a feature on, for good. Programs that do not know it refuse the repository from then on: update them first.

    This is refused for a feature that `freezeframe repo init` alone can give: encryption, authentication.

    It is used once every session is over that had begun before.
    """
    opened: Repository = open_repository()
    found = enable(opened, name)
    if as_json:
        print_json(_document(found))
    else:
        out().print(Text(f"Feature {name} is {found}."), soft_wrap=True)


def _state(one: Switch) -> str:
    if one.state is State.OFF and not FEATURES[one.name].can_be_enabled:
        return "off: given by `repo init` only"
    return str(one)


def _document(one: Switch) -> dict[str, object]:
    known = FEATURES[one.name]
    return {
        "name": one.name,
        "state": one.state.value,
        "older_sessions": one.older,
        "meaning": known.meaning,
        "can_be_enabled": known.can_be_enabled,
    }
