"""Leases, and what worker and guard say to each other: one JSON line a message over a Unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel, ValidationError

from freezeframe.contract.message import CaptureId, GuestUuid, Message, Shape
from freezeframe.contract.words import HoldKind
from workers import durable


class LeasedGuest(Shape):
    guest_uuid: GuestUuid
    hold: HoldKind
    agent_socket: Path | None = None  # QEMU's, for a guest that libvirt loses while it is held


class Lease(Message):
    """Guests that a capture is about to hold. After `seconds` from its arming they are let go, whatever happened."""

    capture_id: CaptureId
    guests: tuple[LeasedGuest, ...]
    seconds: Annotated[float, Field(gt=0, le=700)]


class Arm(Message):
    verb: Literal["arm"] = "arm"
    lease: Lease


class Disarm(Message):
    verb: Literal["disarm"] = "disarm"
    capture_id: CaptureId


class Ping(Message):
    verb: Literal["ping"] = "ping"


class Call(RootModel[Annotated[Arm | Disarm | Ping, Field(discriminator="verb")]]):
    """Anything a worker may say to the guard."""


class Answer(Message):
    """`ok` to a disarm means: the lease was still armed, so nobody but the worker has let go of its guests."""

    ok: bool
    why: str = ""


class LeaseFiles:
    """The leases on disk, one file a capture."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "leases"
        durable.make_directory(self._directory)

    def add(self, lease: Lease) -> None:
        durable.replace(self._path(lease.capture_id), lease.model_dump_json())

    def remove(self, capture_id: str) -> None:
        durable.remove(self._path(capture_id))

    def all(self) -> list[Lease]:
        """Every readable lease. One that cannot be read was never acknowledged: files are put there whole."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                found.append(Lease.model_validate_json(path.read_text(encoding="utf-8")))
            except (ValidationError, OSError):
                continue
        return found

    def _path(self, capture_id: str) -> Path:
        return self._directory / f"{capture_id}.json"
