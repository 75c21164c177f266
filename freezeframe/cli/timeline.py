"""Hold windows side by side as text, the release as one line through all of them.

    alpha   ░░▒▒███████│░     83 ms        ░ a call is on its way that holds the guest, or that lets it go
    beta        ░▒█████│░░    61 ms        ▒ held    █ held, and its backup begun    │ the release: zero on the line

Pure: from times to lines. One cell is the same time everywhere; a part shorter than a cell may not be seen, except the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor

#: What the parts of a hold are drawn with, in the order of its steps; and an end that nobody knows, and the release.
ASKED, HELD, BEGUN, GOING, UNKNOWN, ZERO = "░", "▒", "█", "░", "?", "│"

#: Cells that a drawing has at least, however narrow the terminal, and at most, however wide.
LEAST_CELLS, MOST_CELLS = 16, 100
#: Characters of a name at most.
NAME = 20


@dataclass(frozen=True)
class Hold:
    """One guest's hold: its steps in ms from the release, in their order; None for one that did not happen."""

    name: str
    steps: tuple[float | None, ...]  # hold asked for, held, begun, let go, runs
    note: str  # stands at its end


@dataclass(frozen=True)
class Scale:
    """Where a time is: `left` cells before the release's own, `right` behind it."""

    left: int
    right: int
    cell_ms: float

    @classmethod
    def of(cls, times: Sequence[float], cells: int) -> Scale:
        first, last = min((0.0, *times)), max((0.0, *times))
        cell_ms = (last - first) / max(cells - 3, 1) or 1.0  # a cell for the release, and one a side for rounding
        return cls(ceil(-first / cell_ms), ceil(last / cell_ms), cell_ms)

    @property
    def cells(self) -> int:
        return self.left + 1 + self.right

    def cell(self, at_ms: float) -> int:
        """Never the release's own cell: what came before it is seen before it."""
        if at_ms < 0:
            return max(self.left - ceil(-at_ms / self.cell_ms), 0)
        return min(self.left + 1 + floor(at_ms / self.cell_ms), self.cells - 1)


def legend(zero: str) -> str:
    return f"{ASKED} being held, or let go   {HELD} held   {BEGUN} backup begun   {ZERO} {zero}"


def draw(holds: Sequence[Hold], width: int) -> list[str]:
    """The drawing, in as many columns as there are, if there are enough for anything."""
    name = min(max((len(one.name) for one in holds), default=0), NAME)
    note = max((len(one.note) for one in holds), default=0)
    cells = min(max(width - name - note - 4, LEAST_CELLS), MOST_CELLS)
    scale = Scale.of([at for one in holds for at in one.steps if at is not None], cells)
    lines = [f"{'':{name}}  {_axis(scale)}"]
    lines += [f"{_cut(one.name, name):{name}}  {_row(one, scale)}  {one.note:>{note}}" for one in holds]
    return [line.rstrip() for line in lines]


def _row(hold: Hold, scale: Scale) -> str:
    row = [" "] * scale.cells
    for first, last, mark in _parts(hold, scale):
        row[first:last] = mark * (last - first)
    row[scale.left] = ZERO
    return "".join(row)


def _parts(hold: Hold, scale: Scale) -> Iterator[tuple[int, int, str]]:
    """From each step that happened to the next that did; the last has a cell of its own, a `?` if it is not the end."""
    marks = (ASKED, HELD, BEGUN, GOING, GOING)
    happened = [(scale.cell(at), mark) for at, mark in zip(hold.steps, marks, strict=True) if at is not None]
    for (first, mark), (last, _) in pairwise(happened):
        yield first, max(first, last), mark
    if happened:
        last, mark = happened[-1]
        yield last, last + 1, UNKNOWN if hold.steps[-1] is None else mark


def _axis(scale: Scale) -> str:
    """How long it is before the release and behind it, where there is room; the release is at zero."""
    row = [" "] * scale.cells
    row[scale.left] = "0"
    before, behind = f"−{scale.left * scale.cell_ms:.0f} ms", f"+{scale.right * scale.cell_ms:.0f} ms"
    if scale.left > len(before):
        row[: len(before)] = before
    if scale.right > len(behind):
        row[-len(behind) :] = behind
    return "".join(row)


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
