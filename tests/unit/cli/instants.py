"""A proof of two hosts and three guests as they come, in times that a person can follow."""

from __future__ import annotations

from typing import Any

from freezeframe.contract.clock import ClockReading
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import Arrival, GuestProof, HostProof, Proof
from freezeframe.contract.words import HoldKind
from freezeframe.repository import Manifest

DB1, DB2, WEB = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abc")
HOST_A, HOST_B = "host-a.example", "host-b.example"
FREEZE = GuestHold(kind=HoldKind.FREEZE)
MS = 1_000_000  # ns
#: Redis's clock at the release, in µs: 2026-03-01 12:00:00.
RELEASE_US = 1_772_366_400_000_000
#: Each host's own clock at the release, in ms.
UP_MS = {HOST_A: 5_000_000, HOST_B: 90_000}


def guest(host_id: str, guest_uuid: str, *steps_ms: float, **changes: Any) -> GuestProof:
    """Steps count from the release."""
    names = ("hold_start_ns", "held_ns", "begun_ns", "thaw_start_ns", "thawed_ns")
    steps = {name: at(host_id, step_ms) for name, step_ms in zip(names, steps_ms, strict=False)}
    return GuestProof.model_validate(
        {"guest_uuid": guest_uuid, "hold": FREEZE, "frozen_filesystems": 1, **steps, **changes}
    )


def host(host_id: str, report_ms: float, woken_ms: float | None, *guests: GuestProof, **changes: Any) -> HostProof:
    """Its clock was read a second before the release and half a second after it, to 60 µs."""
    usual: dict[str, Any] = {
        "host_id": host_id,
        "boot_id": f"boot of {host_id}",
        "report_ns": at(host_id, report_ms),
        "woken_ns": at(host_id, woken_ms) if woken_ms is not None else None,
        "clock_before": reading(host_id, -1000),
        "clock_after": reading(host_id, 500),
        "guests": guests,
    }
    return HostProof.model_validate(usual | changes)


def at(host_id: str, from_release_ms: float) -> int:
    return round((UP_MS[host_id] + from_release_ms) * MS)


def reading(host_id: str, from_release_ms: float, *, wrong_ms: float = 0) -> ClockReading:
    redis_us = RELEASE_US + round((from_release_ms + wrong_ms) * 1000)
    return ClockReading(at_ns=at(host_id, from_release_ms), redis_us=redis_us, uncertainty_us=60)


def proof(**changes: Any) -> Proof:
    """Host a is the last to report, and so the one that releases."""
    usual: dict[str, Any] = {
        "epoch": 1_772_366_399_000_007,
        "members": (HOST_A, HOST_B),
        "arrivals": (
            Arrival(host_id=HOST_B, redis_us=RELEASE_US - 21_250),
            Arrival(host_id=HOST_A, redis_us=RELEASE_US),
        ),
        "release_us": RELEASE_US,
        "hosts": (
            host(
                HOST_A,
                -0.12,
                0.15,
                guest(HOST_A, DB1, -83.4, -52, -0.5, 0.3, 9.1),
                guest(HOST_A, DB2, -71, -45, -12.3, 0.3, 14.8),
            ),
            host(HOST_B, -21.4, 0.22, guest(HOST_B, WEB, -79.9, -61, -22, 0.41, 6.3)),
        ),
    }
    return Proof.model_validate(usual | changes)


def captured(manifest: Manifest, shown: Proof) -> Manifest:
    """That manifest as one of these three guests."""
    names = [(DB1, "db1", HOST_A), (DB2, "db2", HOST_A), (WEB, "web", HOST_B)]
    guests = tuple(
        manifest.guests[0].model_copy(update={"guest_uuid": guest_uuid, "name": name, "host_id": host_id})
        for guest_uuid, name, host_id in names
    )
    return manifest.model_copy(update={"guests": guests, "proof": shown})
