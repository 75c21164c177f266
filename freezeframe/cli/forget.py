"""`freezeframe forget`: captures that are needed no more, by rules of what to keep or by their ids."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from freezeframe.cli.completion import capture_ids
from freezeframe.cli.forgetting import Decided, forget_named
from freezeframe.cli.output import AsJson
from freezeframe.cli.secret import open_repository
from freezeframe.cli.selection import GroupFilter, GuestFilter, TagFilter, selection_of
from freezeframe.contract.retention import Retention, Selection
from freezeframe.contract.words import Consistency
from freezeframe.repository import Repository
from freezeframe.repository.store.keeping import check_may_delete

_KEEP, _HOW = "What to keep", "How to count"


def _count(text: str) -> int | str:
    """`7`, `unlimited`."""
    if text == "unlimited":
        return text
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter("a count is a number, or `unlimited`")
    return int(text)


def _keys(text: str) -> frozenset[str] | None:
    """`auto`, `none`, `group,tags`."""
    return {"auto": None, "none": frozenset[str]()}.get(text, frozenset(text.split(",")))


def _keep(what: str) -> Any:
    return typer.Option(metavar="N", parser=_count, help=what, rich_help_panel=_KEEP, show_default=False)


def forget(
    captures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="Captures to forget, and no rules: ids, beginnings of ids, or `latest`.",
            autocompletion=capture_ids,
            show_default=False,
        ),
    ] = None,
    keep_last: Annotated[Any, _keep("The N newest captures; `unlimited` for all, here and below.")] = None,
    keep_hourly: Annotated[Any, _keep("The newest of each of the N newest hours that have one.")] = None,
    keep_daily: Annotated[Any, _keep("The newest of each of N days.")] = None,
    keep_weekly: Annotated[Any, _keep("The newest of each of N weeks, from Monday on.")] = None,
    keep_monthly: Annotated[Any, _keep("The newest of each of N months.")] = None,
    keep_yearly: Annotated[Any, _keep("The newest of each of N years.")] = None,
    keep_within: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="All not older than this, counted back from the newest capture: 1y6m, 2w, 7d12h (m: months).",
            rich_help_panel=_KEEP,
            show_default=False,
        ),
    ] = None,
    keep_tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TAG", help="All with this tag; may be repeated.", rich_help_panel=_KEEP, show_default=False
        ),
    ] = None,
    guest: GuestFilter = None,
    group: GroupFilter = None,
    tag: TagFilter = None,
    group_by: Annotated[
        str,
        typer.Option(
            metavar="KEYS",
            help="Which captures are counted together: those with the same of `group`, `guests`, `tags` (several with commas); "
            "`none`, all; `auto`, by group, and those without a group by their guests.",
            rich_help_panel=_HOW,
        ),
    ] = "auto",
    min_consistency: Annotated[
        Consistency,
        typer.Option(
            help="Count only captures with this label or a better one. Others are kept only while none that counts is newer.",
            rich_help_panel=_HOW,
        ),
    ] = Consistency.CRASH,
    *,
    utc: Annotated[
        bool, typer.Option("--utc", help="Days begin as in UTC, not as on this machine.", rich_help_panel=_HOW)
    ] = False,
    allow_none_left: Annotated[
        bool,
        typer.Option("--allow-none-left", help="Even if rules keep nothing of captures that are counted together."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be forgotten, and forget nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Forget captures that no rule keeps, or those that are named. Without rules and names nothing is forgotten.

    What any rule keeps is kept. Rules count each group by itself, and captures without a group by their guests; they count
    every capture, also one that did without a guest or proves less than others (but see --min-consistency and --group-by).

    A forgotten capture cannot be restored any more; other captures need nothing of it. Its space is freed by `freezeframe gc`.

    Captures whose manifests are damaged are named and left alone, unless their ids are given.

    Exit code: 0 done; 3 refused, because nothing would be left of a group, or a name means more than one guest.
    """
    counts = {"last": keep_last, "hourly": keep_hourly, "daily": keep_daily}
    counts |= {"weekly": keep_weekly, "monthly": keep_monthly, "yearly": keep_yearly}
    rules = {f"keep_{name}": count for name, count in counts.items() if count}
    if keep_within is not None:
        rules["keep_within"] = keep_within
    if keep_tag:
        rules["keep_tags"] = tuple(keep_tag)
    selection = selection_of(guest, group, tag)
    if captures:
        if rules or selection != Selection():
            raise typer.BadParameter("name captures, or say which to keep, and not both")
        forget_named(_opened(dry_run=dry_run), captures, dry_run=dry_run, as_json=as_json)
        return
    if not rules:
        raise typer.BadParameter("say what to keep, as --keep-daily 7, or name captures; nothing is forgotten without")
    how = {"series_by": _keys(group_by), "min_consistency": min_consistency, "utc": utc}
    decided = Decided(_opened(dry_run=dry_run), _retention({**rules, **how}), selection)
    decided.carry_out(allow_none_left=allow_none_left, dry_run=dry_run, as_json=as_json)


def _opened(*, dry_run: bool) -> Repository:
    """Return the repository of the settings. Raises DeletesRefused on a machine that takes nothing away."""
    opened = open_repository()
    if not dry_run:
        check_may_delete(opened.store, "forget")
    return opened


def _retention(wanted: dict[str, Any]) -> Retention:
    """Raises BadParameter, which names what cannot be used."""
    try:
        return Retention.model_validate(wanted)
    except ValidationError as error:
        first = error.errors()[0]
        option = {"series_by": "group-by", "keep_tags": "keep-tag"}.get(
            str(first["loc"][0]), str(first["loc"][0]).replace("_", "-")
        )
        raise typer.BadParameter(f"--{option}: {first['input']!r} cannot be used; see --help") from error
