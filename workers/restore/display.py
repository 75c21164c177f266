"""How a restore shows itself: a bar on a terminal, a line for each disk elsewhere, always on stderr; at the end a summary."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from freezeframe.cli.output import bytes_text, duration_text, err, out
from freezeframe.printable import one_line
from workers.restore.capture import OnDiskProgress
from workers.restore.disk import DiskPart
from workers.restore.report import RestorePlan, RestoreReport


@contextmanager
def progress() -> Iterator[OnDiskProgress]:
    """What to give to `restore_capture` as its `on_progress`."""
    console = err()
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield _bars(bars)


def _lines(console: Console) -> OnDiskProgress:
    def show(disk: DiskPart, done_bytes: int, total_bytes: int) -> None:
        if done_bytes == 0:
            console.print(f"Restoring {disk}, {bytes_text(total_bytes)}, to {disk.where}", soft_wrap=True, markup=False)

    return show


def _bars(bars: Progress) -> OnDiskProgress:
    tasks: dict[DiskPart, TaskID] = {}
    lock = threading.Lock()

    def show(disk: DiskPart, done_bytes: int, total_bytes: int) -> None:
        with lock:
            if disk not in tasks:
                tasks[disk] = bars.add_task(escape(f"{disk.guest_name} {disk.target}"), total=total_bytes)
        bars.update(tasks[disk], completed=done_bytes)

    return show


def show_plan(found: RestorePlan) -> None:
    """For people, on stdout."""
    console = out()
    for disk in found.disks:
        lost = "; what is there would be lost" if disk.overwritten else ""
        rest = f", from {bytes_text(disk.resumed_bytes)} on" if disk.resumed_bytes else ""
        words = f"Guest {disk.guest}, disk {disk.target}: {bytes_text(disk.data_bytes)}{rest} to {disk.where}{lost}"
        console.print(words, soft_wrap=True, markup=False)
    console.print("All checks have passed; nothing was written.")


def summarize(report: RestoreReport) -> None:
    """For people, on stdout; warnings on stderr."""
    console, warnings = out(), err()
    for guest in report.guests:
        console.print(f"Guest {guest.name}", markup=False)
        for disk in guest.disks:
            kept = f", {bytes_text(disk.bytes_kept)} were there already" if disk.bytes_kept else ""
            took = f"{bytes_text(disk.bytes_written)} in {duration_text(disk.seconds)}{kept}"
            words = f"  {disk.target}  {took}  {disk.place or disk.path}"
            console.print(words, soft_wrap=True, markup=False)
        if guest.defined is not None:
            state = "started" if guest.defined.started else "defined"
            starts = "; it starts with this host, as it did when it was captured" if guest.defined.autostart else ""
            words = f"  {state} as {guest.defined.name} ({guest.defined.uuid}){starts}"
            console.print(words, soft_wrap=True, markup=False)
        for warning in guest.warnings:
            warnings.print(one_line(f"warning: guest {guest.name}: {warning}"), soft_wrap=True, markup=False)
    console.print(f"Capture {report.capture_id} restored in {duration_text(report.seconds)}.", soft_wrap=True)
