"""Long work, shown on stderr while it goes on: bars on a terminal, a line now and then anywhere else.

with showing() as progress:
    progress.say("transferring")
    progress.move("db1:vda  host-a", done, total)
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from freezeframe.cli.output import bytes_text, duration_text
from freezeframe.cli.terminal import Terminal
from freezeframe.printable import one_line

#: Seconds between two lines where there is no terminal.
LINE_S = 5.0

Amount = Callable[[float], str]


class Shown(ABC):
    """What a verb tells of its work. Parts are known by their labels; amounts are bytes unless `amount` says otherwise."""

    @abstractmethod
    def say(self, line: str) -> None:
        """The work has come to a new state."""

    @abstractmethod
    def move(self, label: str, done: float, total: float | None) -> None:
        """One part has come this far. `total` is None while nobody knows."""


@contextmanager
def showing(amount: Amount = bytes_text) -> Iterator[Shown]:
    """Show progress for as long as the block lasts."""
    if sys.stderr.isatty():
        with _bars(amount) as bars:
            yield bars
    else:
        yield Lines(amount)


class _Amount(ProgressColumn):
    """`54.5 of 100.0 GiB`."""

    def __init__(self, amount: Amount) -> None:
        super().__init__(table_column=Column(justify="right", no_wrap=True))
        self._amount = amount

    def render(self, task: Task) -> Text:
        done = self._amount(task.completed)
        if task.total is None:
            return Text(done)
        total = self._amount(task.total)
        number, _, unit = done.partition(" ")
        return Text(f"{number if total.endswith(f' {unit}') else done} of {total}")


class _Speed(ProgressColumn):
    """What it does a second, and how long it will take."""

    def __init__(self, amount: Amount) -> None:
        super().__init__(table_column=Column(justify="right", no_wrap=True, min_width=24))
        self._amount = amount

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        words = f"{self._amount(speed)}/s" if speed else ""
        if task.time_remaining and not task.finished:
            words += f", {duration_text(task.time_remaining)} left"
        return Text(words)


class Bars(Shown):
    """A bar for each part, the state above them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def say(self, line: str) -> None:
        self._progress.console.print(line)

    def move(self, label: str, done: float, total: float | None) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=total)
        self._progress.update(self._tasks[label], completed=done, total=total)


@contextmanager
def _bars(amount: Amount) -> Iterator[Bars]:
    columns = (
        # what does not fit is cut from the end of the label, since nobody can do without the numbers
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=12),
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True)),
        _Amount(amount),
        _Speed(amount),
    )
    console = Terminal(stderr=True)
    with Progress(*columns, console=console, expand=True) as progress:
        yield Bars(progress)


@dataclass
class Lines(Shown):
    """A line for each state, and one for all parts together every few seconds."""

    amount: Amount = bytes_text
    interval_s: float = LINE_S
    clock: Callable[[], float] = time.monotonic
    _parts: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    _sum_done: float = 0.0
    _last: tuple[float, float] | None = None

    def say(self, line: str) -> None:
        sys.stderr.write(f"{one_line(line)}\n")
        sys.stderr.flush()

    def move(self, label: str, done: float, total: float | None) -> None:
        self._sum_done += done - self._parts.get(label, (0, None))[0]  # each part tells several times a second
        self._parts[label] = (done, total)
        now, sum_done = self.clock(), self._sum_done
        if self._last is None:
            self._last = (now, sum_done)
        elif now - self._last[0] >= self.interval_s:
            self.say(self._line(sum_done, (sum_done - self._last[1]) / (now - self._last[0])))
            self._last = (now, sum_done)

    def _line(self, sum_done: float, speed: float) -> str:
        totals = [total for _, total in self._parts.values()]
        whole = sum(total for total in totals if total is not None)
        share = f" of {self.amount(whole)} ({sum_done / whole:.0%})" if whole and None not in totals else ""
        return f"  {len(self._parts)} parts: {self.amount(sum_done)}{share}, {self.amount(max(speed, 0))}/s"
