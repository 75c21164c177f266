"""Leases on disk, and what worker and guard say to each other: one JSON line a message over a Unix socket."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, RootModel

from freezeframe.contract.message import CaptureId, GuestUuid, Message, Shape
from freezeframe.contract.words import HoldKind
from workers import durable
from workers.guard.reading import FoundLease, read_lease
from workers.guard.table import LONGEST_LEASE_S

#: The directory of the leases, in the guard's state directory.
LEASES = "leases"
#: Seconds for which a worker may ask the guard to wait; two looks at a guest that does not answer take as long.
LONGEST_INQUIRY_S: Final = 30.0


class LeasedGuest(Shape):
    guest_uuid: GuestUuid
    hold: HoldKind
    agent_socket: Path | None = None  # QEMU's, for a guest that libvirt loses while it is held
    monitor_socket: Path | None = None  # QEMU's, at which it listens when libvirtd has died


class Lease(Message):
    """Guests that a capture is about to hold. After `seconds` from its arming they are let go, whatever happened."""

    capture_id: CaptureId
    guests: tuple[LeasedGuest, ...]
    seconds: Annotated[float, Field(gt=0, le=LONGEST_LEASE_S)]


class Arm(Message):
    verb: Literal["arm"] = "arm"
    lease: Lease


class Disarm(Message):
    """These guests (None: all) have confirmed that they run, and no call that could hold them is pending."""

    verb: Literal["disarm"] = "disarm"
    capture_id: CaptureId
    guests: tuple[GuestUuid, ...] | None = None


class Ping(Message):
    verb: Literal["ping"] = "ping"


class Inquire(Message):
    """Name the guests of these that the guard still has to let go of, after `seconds` at most. Nothing is armed."""

    verb: Literal["inquire"] = "inquire"
    guests: tuple[LeasedGuest, ...]
    seconds: Annotated[float, Field(ge=0, le=LONGEST_INQUIRY_S)]


class Call(RootModel[Annotated[Arm | Disarm | Ping | Inquire, Field(discriminator="verb")]]):
    """Anything a worker may say to the guard."""


class Refusal(StrEnum):
    """The reasons for which a guard refuses a call; each has an advice of its own (`client`)."""

    STOPPING = "stopping"
    TWICE = "twice"  # the capture has a lease already
    DISK = "disk"  # the lease cannot be stored
    GUESTS = "guests"  # none of the lease's guests can be leased now
    UNREADABLE = "unreadable"
    DISARMED = "disarmed"  # the lease was not armed any more


class RefusedGuest(Shape):
    """A guest that is not leased: the guard still lets go of it under the lease of this earlier capture."""

    guest_uuid: GuestUuid
    capture_id: CaptureId


class Answer(Message):
    """`ok` to a disarm means: the lease was still armed, so nobody but the worker has let go of its guests.

    `ok` to an arm means that every guest is leased but those that are `refused`.
    """

    ok: bool
    why: str = ""
    reason: Refusal | None = None
    refused: tuple[RefusedGuest, ...] = ()


class StoredLease(Message):
    """A lease as it is on disk. `deadline_s` is of CLOCK_BOOTTIME, which is one clock only within one boot.

    The guests stand first: of a file that is cut off they are found all the same (`reading`).
    """

    guests: tuple[LeasedGuest, ...]
    capture_id: CaptureId
    deadline_s: float
    boot_id: str


class LeaseFiles:
    """The leases on disk, one file a capture."""

    def __init__(self, state_dir: Path) -> None:
        self._captures = state_dir / "captures"
        self._directory = state_dir / LEASES
        durable.make_directory(self._directory)

    def add(self, lease: StoredLease) -> None:
        """Put a lease on stable storage, in place of an earlier one of its capture."""
        durable.replace(self._path(lease.capture_id), lease.model_dump_json())

    def remove(self, capture_id: str) -> None:
        durable.remove(self._path(capture_id))

    def all(self, now: float | None = None) -> list[FoundLease]:
        """Return every lease, as far as it can be read: none is passed over. `now` is of the guard's clock. Raises OSError."""
        paths = sorted(
            path for path in self._directory.iterdir() if path.suffix == ".json"
        )  # a glob passes over EACCES
        return [read_lease(path, self._captures / path.stem, now) for path in paths]

    def _path(self, capture_id: str) -> Path:
        return self._directory / f"{capture_id}.json"


def leased(state_dir: Path, capture_id: str) -> frozenset[str] | None:
    """Return the guests that the capture's lease names, none if there is no lease; None if that is not known."""
    path = state_dir / LEASES / f"{capture_id}.json"
    try:
        path.stat()
    except FileNotFoundError:
        return frozenset() if path.parent.is_dir() else None  # a guard makes the directory before its first lease
    except OSError:
        return None
    found = read_lease(path, state_dir / "captures" / capture_id)
    return None if found.damage is not None else frozenset(guest.guest_uuid for guest in found.guests)
