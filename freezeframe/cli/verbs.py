"""Where each verb is, and how it becomes a command: loaded only when it is asked for, so that a broken or missing library
costs the verbs that need it and no other.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import DefaultPlaceholder

from freezeframe.cli.failure import shown, wants_json
from freezeframe.errors import FreezeframeError
from freezeframe.missing import remedy

GROUP = "freezeframe.commands"

CAPTURES, INVENTORY, TROUBLE, SERVICES = "Captures", "What there is", "In trouble", "Services"


@dataclass(frozen=True)
class Shelf:
    """A verb's entry in the help: its heading, and the module that has it."""

    panel: str
    place: str = ""  # module:attribute; empty for those that an entry point brings


#: In the order of the help.
_SHELVES = {
    "up": Shelf(SERVICES, "freezeframe.cli.up:up"),
    "capture": Shelf(CAPTURES, "freezeframe.cli.capture:capture"),
    "captures": Shelf(CAPTURES, "freezeframe.cli.captures:captures"),
    "list": Shelf("", "freezeframe.cli.captures:captures"),  # the same, for those who type it; not in the help
    "verify": Shelf(CAPTURES, "freezeframe.cli.verify:verify"),
    "restore": Shelf(CAPTURES),
    "forget": Shelf(CAPTURES, "freezeframe.cli.forget:forget"),
    "gc": Shelf(CAPTURES, "freezeframe.cli.gc:gc"),
    "export": Shelf(CAPTURES),
    "import": Shelf(CAPTURES),
    "hosts": Shelf(INVENTORY, "freezeframe.cli.hosts:hosts"),
    "guests": Shelf(INVENTORY, "freezeframe.cli.guests:guests"),
    "repo": Shelf(INVENTORY, "freezeframe.cli.repo:repo"),
    "key": Shelf(INVENTORY, "freezeframe.cli.key:key"),
    "version": Shelf(INVENTORY, "freezeframe.cli.version:show_version"),
    "thaw": Shelf(TROUBLE),
    "recover": Shelf(TROUBLE),
    "detach": Shelf(TROUBLE),
    "guard": Shelf(SERVICES),
    "worker": Shelf(SERVICES),
    "orchestrator": Shelf(SERVICES),
}


class VerbMissingError(FreezeframeError):
    """This verb cannot be used on this machine."""

    code = "verb-missing"


class Verb(TyperCommand):
    """One verb; errors in it are shown as everywhere."""

    def invoke(self, ctx: Any) -> Any:
        with shown(as_json=wants_json(ctx)):
            return super().invoke(ctx)


class VerbGroup(TyperGroup):
    """A verb with verbs of its own; errors in it are shown as everywhere."""

    def invoke(self, ctx: Any) -> Any:
        with shown(as_json=wants_json(ctx)):
            return super().invoke(ctx)


class Verbs(VerbGroup):
    """All verbs, ours and those that entry points bring."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's contexts are these
        brought = _brought()
        shelved = [name for name, shelf in _SHELVES.items() if shelf.place or name in brought]
        return list(dict.fromkeys([*shelved, *super().list_commands(ctx), *sorted(brought)]))

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in self.commands and (cmd_name in _SHELVES or cmd_name in _brought()):
            self.commands[cmd_name] = _command(cmd_name)
        return super().get_command(ctx, cmd_name)


def _brought() -> dict[str, str]:
    """What entry points bring: names and places."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def _command(name: str) -> Any:
    shelf = _SHELVES.get(name, Shelf(SERVICES))
    place = shelf.place or _brought().get(name, "")
    try:
        module, _, attribute = place.partition(":")
        target = getattr(_imported(module), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        target = _missing(error)
    command = as_command(name, target)
    command.hidden = not shelf.panel
    command.rich_help_panel = shelf.panel
    return command


def _imported(module: str) -> Any:
    """A module, without collections of garbage meanwhile: what it makes stays, and to look through all of it again and again
    takes a seventh of a command's start.
    """
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


def as_command(name: str, target: Callable[..., Any] | typer.Typer) -> Any:
    """A function or a Typer as a command that shows failures like all others."""
    if isinstance(target, typer.Typer):
        inner = target
    else:
        inner = typer.Typer(add_completion=False)
        inner.command(name)(target)
    _show_failures(inner)
    inner.rich_markup_mode = "markdown"  # joins the lines of a paragraph, as they were meant
    command: Any = typer.main.get_command(inner)
    command.name = name
    return command


def _show_failures(verbs: typer.Typer) -> None:
    """Have each verb of a Typer, however deep, show its failures as everywhere."""
    for info in verbs.registered_commands:
        info.cls = Verb if info.cls in {None, TyperCommand} else info.cls
    for group in verbs.registered_groups:
        given: object = group.cls
        group.cls = VerbGroup if isinstance(given, DefaultPlaceholder) else group.cls
        if group.typer_instance is not None:
            _show_failures(group.typer_instance)


def _missing(error: Exception) -> typer.Typer:
    """Return a stand-in that says which package is missing, whatever it is called with."""
    advice = (remedy(error) if isinstance(error, ImportError) else None) or "Install freezeframe again, in one piece."
    missing = typer.Typer(add_completion=False)

    @missing.command(
        help=f"(cannot be loaded here: {advice})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def stand_in(
        *,
        as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,  # noqa: ARG001  how the error is shown
    ) -> None:
        raise VerbMissingError(f"This verb cannot be loaded on this machine: {error}.", advice=advice) from error

    return missing
