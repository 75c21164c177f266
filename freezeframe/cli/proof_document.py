"""The proof of a capture's instant for programs: as it is stored, with what is derived from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from freezeframe.contract.clock import RedisTime
from freezeframe.contract.doubts import doubts
from freezeframe.contract.proof import HostProof, Proof, consistency, guest_consistency, shortcomings
from freezeframe.repository import Manifest
from freezeframe.repository.label import mislabels


def proof_document(manifest: Manifest) -> dict[str, Any]:
    """The proof, with every host's times by Redis's clock, and what follows from it."""
    proof = manifest.proof
    lacking = shortcomings(proof) if proof else ["the capture has no proof"]
    names = {guest.guest_uuid: guest.name for guest in manifest.guests}
    return {
        "capture_id": manifest.capture_id,
        "consistency": manifest.consistency,
        "proven": consistency(proof) if proof else None,
        "shortcomings": lacking,
        "mislabels": mislabels(manifest),
        "doubts": doubts(proof) if proof else [],
        "proof": proof,
        "redis_times": [_host_document(names, lacking, proof, host) for host in proof.hosts] if proof else [],
    }


def _host_document(names: Mapping[str, str], lacking: Sequence[str], proof: Proof, host: HostProof) -> dict[str, Any]:
    return {
        "host_id": host.host_id,
        "offset_before_us": host.clock_before.offset_ns / 1000 if host.clock_before else None,
        "offset_after_us": host.clock_after.offset_ns / 1000 if host.clock_after else None,
        "report": _time_document(proof, host.redis_time(host.report_ns)),
        "woken": _time_document(proof, host.redis_time(host.woken_ns)),
        "guests": [
            {
                "guest_uuid": guest.guest_uuid,
                "name": names.get(guest.guest_uuid),
                "proven": guest_consistency(lacking, guest),
                "hold_ms": guest.hold_ms,
                "steps": {step: _time_document(proof, host.redis_time(at)) for step, at in guest.steps().items()},
            }
            for guest in host.guests
        ],
    }


def _time_document(proof: Proof, time: RedisTime | None) -> dict[str, Any] | None:
    """`from_release_ms` only if there was one: for programs nothing else takes its place."""
    if time is None:
        return None
    since = (time.redis_us - proof.release_us) / 1000 if proof.release_us is not None else None
    return {**time._asdict(), "from_release_ms": since}
