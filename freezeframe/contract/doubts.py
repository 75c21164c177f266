"""Doubts: where a proof contradicts itself by more than its clocks were measured to.

A doubt is a warning and never an error, and no label depends on one. That all guests show one instant follows from causes
and effects: a report was sent before it arrived, a wake-up came after the release, whatever any clock said. Clocks only
measure it, and Redis's is a wall clock: if NTP or an administrator sets it in the middle of a hold, a sound proof looks as
if an effect had come before its cause. So a doubt says "look at the clocks of this host and of Redis", or that somebody
wrote the record who did not measure. An error is a label that is not what the proof gives (`repository.label`).

A host that did not measure gives no doubts, since there is nothing to compare.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from freezeframe.contract.clock import ClockReading, contradictions, moved_us
from freezeframe.contract.proof import HostProof, Proof


def doubts(proof: Proof) -> list[str]:
    """What does not fit together in the times of a proof, each with the host's name; empty if all does."""
    arrivals = {arrival.host_id: arrival.redis_us for arrival in proof.arrivals}
    found = _order_doubts(proof)
    for host in proof.hosts:
        found += _clock_doubts(host)
        found += _report_doubts(host, arrivals.get(host.host_id))
        found += _release_doubts(host, proof.release_us)
    return [*found, *_boot_doubts(proof.hosts)]


def _order_doubts(proof: Proof) -> list[str]:
    """The barrier is released no earlier than the last arrival: one script stamps both, so its clock was set back."""
    late = [
        arrival for arrival in proof.arrivals if proof.release_us is not None and arrival.redis_us > proof.release_us
    ]
    return [
        f"Redis's clock went back in the barrier: host {one.host_id} arrived after the release, by it" for one in late
    ]


def _clock_doubts(host: HostProof) -> list[str]:
    """The two readings agree, and enclose all that the host did with its guests."""
    before, after = host.clock_before, host.clock_after
    if before is None:
        return []
    found = []
    if after is not None and (moved := moved_us(before, after)):
        found.append(f"host {host.host_id}: its clock and Redis's moved {_ms(moved)} against each other while it held")
    times = [at_ns for guest in host.guests for at_ns in guest.steps().values() if at_ns is not None]
    if any(at_ns < before.at_ns or (after is not None and at_ns > after.at_ns) for at_ns in times):
        found.append(f"host {host.host_id}: not all of its steps lie between the two readings of its clock")
    return found


def _report_doubts(host: HostProof, arrived_us: int | None) -> list[str]:
    """A report is sent before it arrives."""
    sent = host.redis_time(host.report_ns)
    if sent is None or arrived_us is None or sent.redis_us - sent.uncertainty_us <= arrived_us:
        return []
    early, give = _ms(sent.redis_us - arrived_us), _ms(sent.uncertainty_us)
    return [f"host {host.host_id}: its report arrived {early} before it was sent, by clocks measured to ± {give}"]


def _release_doubts(host: HostProof, release_us: int | None) -> list[str]:
    """A host is told of the release after it."""
    told = host.redis_time(host.woken_ns)
    if told is None or release_us is None or told.redis_us + told.uncertainty_us >= release_us:
        return []
    early, give = _ms(release_us - told.redis_us), _ms(told.uncertainty_us)
    return [f"host {host.host_id}: it was told of the release {early} before it, by clocks measured to ± {give}"]


def _boot_doubts(hosts: Sequence[HostProof]) -> Iterator[str]:
    """Hosts that share a boot, as containers on one machine do, share its monotonic clock."""
    by_boot = defaultdict[str, list[tuple[str, ClockReading]]](list)
    for host in hosts:
        if host.clock_before is not None:
            by_boot[host.boot_id].append((host.host_id, host.clock_before))
    for measured in by_boot.values():
        for one, other in contradictions([reading for _, reading in measured]):
            both = f"hosts {measured[one][0]} and {measured[other][0]}"
            apart = _ms(moved_us(measured[one][1], measured[other][1]))
            yield f"{both}: by their boot id they have one clock, but what they measured of it differs by {apart}"


def _ms(duration_us: int) -> str:
    return f"{duration_us / 1000:.3f} ms"
