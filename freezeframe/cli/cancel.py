"""`freezeframe captures cancel`: end a capture that is under way, and keep nothing of it."""

from __future__ import annotations

import getpass
import socket
import time
from contextlib import suppress
from typing import Annotated, Final

import typer

from freezeframe.cli.address import bus_settings
from freezeframe.cli.output import AsJson, out, print_json
from freezeframe.client import Client, UnreachableError
from freezeframe.contract.event import EndEvent
from freezeframe.contract.request import Receipt
from freezeframe.contract.words import RunState
from freezeframe.errors import EXIT_NOT_FOUND, EXIT_REFUSED, FreezeframeError

#: The fault of a run that was cancelled.
_CANCELLED: Final = "cancelled"
#: Seconds after which the orchestrator is asked again, and how often: it tries 20 s itself, and asking twice is asking once.
AGAIN_S: Final = 30.0
MOST_TIMES: Final = 20


class NotUnderWayError(FreezeframeError):
    """There is no such capture under way."""

    code = "not-under-way"
    exit_code = EXIT_NOT_FOUND
    advice = "`freezeframe captures` lists those that are; `freezeframe forget` takes a sealed one away."


class TooLateError(FreezeframeError):
    """A capture has ended, or was sealed before it could be cancelled."""

    code = "too-late"
    exit_code = EXIT_REFUSED


def cancel(
    capture: Annotated[
        str, typer.Argument(metavar="ID", help="The capture's id, or the beginning of one.", show_default=False)
    ],
    *,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until it has ended, or only ask the orchestrator.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Cancel a capture that is under way: its guests run on, hosts clean up, and nothing of it is kept.

    While guests are held their hold ends as ever, in seconds. One that is sealed by then stays, and the exit code is 3.
    """
    client = Client(bus_settings())
    run = client.find_run(capture)
    if run is None:
        raise NotUnderWayError(f"No capture that is under way is called, or begins with, {capture!r}.")
    if run.state.ended:
        raise TooLateError(
            f"Capture {run.capture_id} has ended already: it is {run.state}.", advice=_shown(run.capture_id)
        )
    client.cancel(run.capture_id, _who())
    receipt = _end(client, run.capture_id, _Again(client, run.capture_id)) if wait else None
    if receipt is not None and receipt.state is RunState.DONE:
        raise TooLateError(
            f"Capture {run.capture_id} was sealed before it could be cancelled.",
            advice=f"`freezeframe forget {run.capture_id}` takes it away.",
        )
    if as_json:
        print_json(receipt or {"capture_id": run.capture_id, "state": run.state, "cancelled": None})
        return
    out().print(_told(run.capture_id, receipt), soft_wrap=True)


class _Again:
    """Ask for the end of a capture again, now and then: an orchestrator that was killed may have taken the message with it."""

    def __init__(self, client: Client, capture_id: str) -> None:
        self._client = client
        self._capture_id = capture_id
        self._asked_at = time.monotonic()
        self._left = MOST_TIMES

    def __call__(self) -> None:
        if not self._left or time.monotonic() - self._asked_at < AGAIN_S:
            return
        self._asked_at, self._left = time.monotonic(), self._left - 1
        with suppress(UnreachableError):  # it is waited for as the run's events are
            self._client.cancel(self._capture_id, _who())


def _end(client: Client, capture_id: str, again: _Again) -> Receipt:
    for event in client.follow(capture_id, meanwhile=again):
        if isinstance(event, EndEvent):
            return event.receipt
    raise RuntimeError("the events of a run ended without an end")


def _told(capture_id: str, receipt: Receipt | None) -> str:
    if receipt is None:
        return f"Asked for the end of capture {capture_id}; {_shown(capture_id)[0].lower()}{_shown(capture_id)[1:]}"
    if any(fault.code == _CANCELLED for fault in receipt.faults):
        return f"Capture {capture_id} was cancelled; nothing of it is kept."
    return f"Capture {capture_id} had failed before it could be cancelled; nothing of it is kept. {_shown(capture_id)}"


def _shown(capture_id: str) -> str:
    return f"`freezeframe captures show {capture_id}` shows how it stands."


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
