"""What is told of a run while it runs: one event an entry of the run's stream."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, RootModel

from freezeframe.contract.message import UNLESS_EMPTY, CaptureId, DiskTarget, HostId, Message, Shape
from freezeframe.contract.request import Receipt
from freezeframe.contract.words import RunState


class Queued(Shape):
    """The place of a run among those that wait, and what it waits for."""

    place: Annotated[int, Field(ge=1)]
    why: str


class StateEvent(Message):
    """The run has come to a new state, or to another place among those that wait."""

    type: Literal["state"] = "state"
    capture_id: CaptureId
    at: datetime
    state: RunState
    queued: Annotated[Queued | None, UNLESS_EMPTY] = None  # while it waits


class WarningEvent(Message):
    """The run meets trouble that is waited out; told once for each reason, and part of the receipt when it ends."""

    type: Literal["warning"] = "warning"
    capture_id: CaptureId
    at: datetime
    text: str


class ProgressEvent(Message):
    """How far one disk's transfer has come. `bytes_done` counts what was read and what could be skipped."""

    type: Literal["progress"] = "progress"
    capture_id: CaptureId
    at: datetime
    host_id: HostId
    guest: str
    target: DiskTarget
    bytes_done: int
    bytes_total: int
    bytes_read: int


class EndEvent(Message):
    """The run has ended; the last event of a stream."""

    type: Literal["end"] = "end"
    capture_id: CaptureId
    at: datetime
    receipt: Receipt


class Event(RootModel[Annotated[StateEvent | WarningEvent | ProgressEvent | EndEvent, Field(discriminator="type")]]):
    """Any of them."""
