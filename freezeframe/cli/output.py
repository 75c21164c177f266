"""What verbs print: tables for people, one JSON document for programs, and how sizes, times and durations are written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from freezeframe.cli.terminal import Terminal
from freezeframe.printable import json_text

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

#: Columns where nobody set a width: a table in a pipe or a file is not folded to 80.
_WIDE = 200

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def out() -> Console:
    """Standard output, for people."""
    return Terminal(width=None if sys.stdout.isatty() else _WIDE)


def err() -> Console:
    """Standard error, for people."""
    return Terminal(stderr=True, width=None if sys.stderr.isatty() else _WIDE)


def print_json(document: Any) -> None:
    """One JSON document on stdout. Pydantic models may be anywhere in lists, tuples and dicts."""
    sys.stdout.write(json_text(document, _plain, indent=2) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> Table:
    """A table. `right` names the columns of numbers, `whole` those to copy from, which are never folded; others are folded if
    they do not fit, and nothing is cut away.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column in whole
        )
    for row in rows:
        shown.add_row(*row)
    return shown


def fields(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and values, one pair a line."""
    shown = Table.grid(padding=(0, 2, 0, 0))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in pairs:
        shown.add_row(name, value)
    return shown


def bytes_text(count: float) -> str:
    """`1.4 GiB`."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def ms_text(duration_ms: float | None) -> str:
    """`83 ms`, `1.27 s`; a dash for none."""
    if duration_ms is None:
        return "–"
    return f"{duration_ms:.0f} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.2f} s"


def duration_text(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = max(round(seconds), 0)
    for size, unit, lesser_size, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // lesser_size
            return f"{whole // size} {unit}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def when_text(moment: datetime) -> str:
    """UTC to the second, as `2026-03-01 12:00:00`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
