"""Following a run, and the receipt that it ends with, for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from freezeframe.cli.failure import show_fault
from freezeframe.cli.output import bytes_text, duration_text, err, fields, ms_text, out, table
from freezeframe.cli.progress import Shown
from freezeframe.client import AnyEvent
from freezeframe.contract.event import EndEvent, ProgressEvent, Queued, StateEvent, WarningEvent
from freezeframe.contract.request import SEAL_UNKNOWN, Receipt
from freezeframe.contract.words import Consistency, RunState
from freezeframe.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTIAL, FreezeframeError
from freezeframe.printable import one_line

#: What each state means, to somebody who has not read the design.
SAID: Final = {
    RunState.ASKED: "asked: the orchestrator looks for the guests and plans the capture",
    RunState.QUEUED: "queued: it waits for a place among the captures that are at work",
    RunState.PREPARING: "preparing: hosts check guests, disks and the repository",
    RunState.HOLDING: "holding: all guests are kept still for one instant",
    RunState.TRANSFERRING: "transferring: guests run on while their disks are read",
    RunState.SEALING: "sealing: the manifest is written",
    RunState.RELEASING: "releasing: hosts clean up",
    RunState.DONE: "done",
    RunState.FAILED: "failed",
}

STYLES: Final = {Consistency.GROUP: "green", Consistency.GUEST: "yellow", Consistency.CRASH: "red"}


class StoppedFollowingError(FreezeframeError):
    """Somebody pressed Ctrl-C."""

    code = "interrupted"
    exit_code = EXIT_INTERRUPTED


def follow(events: Iterable[AnyEvent], progress: Shown, capture_id: str) -> Receipt:
    """Show a run until its end; its receipt. Raises StoppedFollowingError at Ctrl-C; the run goes on."""
    try:
        for event in events:
            match event:
                case StateEvent():
                    progress.say(state_text(event.state, event.queued))
                case WarningEvent():
                    progress.say(f"warning: {event.text}")
                case ProgressEvent():
                    label = f"{event.guest}:{event.target}  {event.host_id}"
                    progress.move(label, event.bytes_done, event.bytes_total)
                case EndEvent():
                    progress.say(SAID[event.receipt.state])
                    return event.receipt
    except KeyboardInterrupt:
        raise StoppedFollowingError(
            f"Stopped following; capture {capture_id} goes on.",
            advice=f"`freezeframe captures show {capture_id}` shows how it stands, and what came of it.",
        ) from None
    raise RuntimeError("the events of a run ended without an end")


def state_text(state: RunState, queued: Queued | None) -> str:
    """Return what a state means, and what a run waits for in it."""
    if queued is None:
        return SAID[state]
    return f"queued: place {queued.place}, as {queued.why}"


def exit_code(receipt: Receipt) -> int:
    """0 if all is well; that of the first fault if it failed; EXIT_PARTIAL if it did without something."""
    if receipt.state is RunState.DONE:
        return EXIT_PARTIAL if receipt.faults else 0
    return (receipt.faults[0].exit_code or EXIT_FAILED) if receipt.faults else EXIT_FAILED


def show_receipt(receipt: Receipt, aside: Console | None = None) -> None:
    """The receipt on stdout; faults, warnings and skipped disks on stderr, where nobody overlooks them, or on `aside`."""
    console, aside = out(), aside or err()
    console.print()  # apart from the progress above
    if receipt.guests:
        rows = [
            (one.guest, one.host, ms_text(one.hold_ms), consistency_text(one.consistency)) for one in receipt.guests
        ]
        console.print(table(["guest", "host", "held", "consistency"], rows, right=["held"]))
        console.print()
    console.print(fields(_summary(receipt)))
    for one in receipt.left_out:
        said = f"guest {one.guest} on host {one.host}: {one.reason}"
        aside.print(Text.assemble(("left out: ", "bold yellow"), one_line(said)), soft_wrap=True)
    for disk in receipt.skipped_disks:
        said = f"{disk.guest}, disk {disk.target}: {disk.reason}"
        aside.print(Text.assemble(("skipped: ", "bold yellow"), one_line(said)), soft_wrap=True)
    for warning in receipt.warnings:
        aside.print(Text.assemble(("warning: ", "bold yellow"), one_line(warning)), soft_wrap=True)
    for fault in receipt.faults:
        show_fault(fault, aside)


def consistency_text(consistency: Consistency | None) -> Text:
    return Text(str(consistency), style=STYLES[consistency]) if consistency else Text("–")


def _summary(receipt: Receipt) -> list[tuple[str, str | Text]]:
    pairs: list[tuple[str, str | Text]] = [("capture", receipt.capture_id), ("state", _state_text(receipt))]
    if receipt.consistency:
        pairs.append(("consistency", consistency_text(receipt.consistency)))
    pairs += [("read", bytes_text(receipt.bytes_read)), ("stored", bytes_text(receipt.bytes_stored))]
    if receipt.ended_at:
        pairs.append(("took", duration_text((receipt.ended_at - receipt.asked_at).total_seconds())))
    return pairs


def _state_text(receipt: Receipt) -> Text:
    if receipt.state is RunState.DONE:
        return Text("done, but with less than was asked for", "yellow") if receipt.faults else Text("done", "green")
    if any(fault.code == SEAL_UNKNOWN for fault in receipt.faults):
        return Text("failed; whether anything was kept is not known", "red")
    return Text("failed; nothing was kept", "red")
