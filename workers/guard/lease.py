"""Leases on disk, and what worker and guard say to each other: one JSON line a message over a Unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel

from freezeframe.contract.message import CaptureId, GuestUuid, Message, Shape
from freezeframe.contract.words import HoldKind
from workers import durable
from workers.guard.reading import FoundLease, read_lease
from workers.guard.table import LONGEST_LEASE_S

#: The directory of the leases, in the guard's state directory.
LEASES = "leases"


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


class Call(RootModel[Annotated[Arm | Disarm | Ping, Field(discriminator="verb")]]):
    """Anything a worker may say to the guard."""


class Answer(Message):
    """`ok` to a disarm means: the lease was still armed, so nobody but the worker has let go of its guests."""

    ok: bool
    why: str = ""


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
        """Return every lease, as far as it can be read: none is passed over. `now` is of the guard's clock."""
        return [read_lease(path, self._captures / path.stem, now) for path in sorted(self._directory.glob("*.json"))]

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
