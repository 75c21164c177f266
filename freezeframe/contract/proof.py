"""The proof that guests share one instant, and the label that follows from it.

The cut is consistent if and only if every thaw happens after every guest is held and its backup begun. That is causality
across hosts, so the proof never compares the clocks of two hosts: each comparison is between two times of one clock.

    host a   hold ── begun ── report ┐                        ┌ woken ── thaw     monotonic clock of host a
    host b      hold ── begun ─────── report ┐                ├ woken ── thaw     monotonic clock of host b
    Redis                     arrive a ── arrive b ── release ┘                   one script, one clock

On each host: begun ≤ report ≤ woken ≤ thaw. In Redis: every member arrived, and the script that released the barrier had
counted all of them. So begun ≤ report ≤ arrive ≤ release ≤ woken ≤ thaw, across any two hosts. That the release follows the
arrivals is the script's order, not its wall clock's: Redis's clock may be set back between two arrivals.

Each host also measures its clock against Redis's (`clock`), so that all steps can be shown on one line. Nothing that is
proven depends on it; what does not fit together by these times is a doubt (`doubts`).
"""

from __future__ import annotations

from collections.abc import Sequence

from freezeframe.contract.clock import ClockReading, RedisTime, redis_time
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.message import DiskTarget, GuestUuid, HostId, Shape
from freezeframe.contract.words import Consistency, HoldKind


class GuestProof(Shape):
    """One guest's steps on its host's monotonic clock, in ns. A step that did not happen is None."""

    guest_uuid: GuestUuid
    hold: GuestHold
    moving_disks: tuple[DiskTarget, ...] = ()  # which the hold does not keep still, as far as is known
    hold_start_ns: int | None = None  # before the first call that keeps the guest still
    held_ns: int | None = None  # libvirt has confirmed the hold
    begun_ns: int | None = (
        None  # libvirt has confirmed the backups of all disks that were prepared, begun in one transaction
    )
    thaw_start_ns: int | None = None
    thawed_ns: int | None = None  # the guest itself has confirmed that it runs and is not frozen
    frozen_filesystems: int | None = None
    expected_filesystems: int | None = None  # how many there were to freeze; None for a record that does not say
    cut_short: str | None = None  # why the hold may have ended before `thaw_start_ns`, by another hand than ours

    @property
    def hold_ms(self) -> float | None:
        """The hold window: from before the hold to the confirmed thaw."""
        if self.hold.kind is HoldKind.NONE or self.hold_start_ns is None or self.thawed_ns is None:
            return None
        return (self.thawed_ns - self.hold_start_ns) / 1e6

    def steps(self) -> dict[str, int | None]:
        """Its steps in the order in which they should be, on its host's monotonic clock, in ns."""
        return {
            "hold_start": self.hold_start_ns,
            "held": self.held_ns,
            "begun": self.begun_ns,
            "thaw_start": self.thaw_start_ns,
            "thawed": self.thawed_ns,
        }

    @property
    def promises(self) -> bool:
        """Whether the hold that was asked for keeps the guest still, if it goes well."""
        return self.hold.kind is not HoldKind.NONE and not self.moving_disks

    @property
    def all_frozen(self) -> bool:
        """Return True if as much was frozen as there was to freeze; a freeze of nothing keeps nothing still."""
        if not self.hold.kind.freezes or self.hold.kind.pauses:
            return True  # paused CPUs write to no filesystem
        return (self.frozen_filesystems or 0) >= self.least_filesystems

    @property
    def least_filesystems(self) -> int:
        """Return how many filesystems a freeze must have frozen, for the guest to count as still."""
        expected = len(self.hold.mountpoints) if self.expected_filesystems is None else self.expected_filesystems
        return max(1, expected)

    @property
    def own_instant(self) -> bool:
        """Whether the guest was kept still from before its backups began until after."""
        return (
            self.promises
            and self.all_frozen
            and self.cut_short is None
            and self.held_ns is not None
            and self.begun_ns is not None
            and self.thaw_start_ns is not None
            and self.held_ns <= self.begun_ns <= self.thaw_start_ns
        )


class Arrival(Shape):
    """One host's report at the barrier, by Redis's clock in µs, in the order in which Redis saw them."""

    host_id: HostId
    redis_us: int


class HostProof(Shape):
    """What one host saw of the barrier, on its monotonic clock, and what it did to its guests."""

    host_id: HostId
    boot_id: str  # the monotonic clock is one clock only within one boot
    report_ns: int | None = None  # before the call that reports `held`
    woken_ns: int | None = None  # after the wake-up that says `released`; None if it never came
    clock_before: ClockReading | None = None  # before any guest was held
    clock_after: ClockReading | None = None  # after all were let go; None if Redis was away
    guests: tuple[GuestProof, ...]

    def redis_time(self, at_ns: int | None) -> RedisTime | None:
        """What Redis's clock said at a moment of this host's, and how sure that is (`clock.redis_time`): derived from the
        two readings each time, stored nowhere. None for a step that did not happen, or if this host did not measure.
        """
        if at_ns is None or self.clock_before is None:
            return None
        return redis_time(at_ns, self.clock_before, self.clock_after)


class Proof(Shape):
    """All that was recorded of a hold. What is of arrivals and the release is Redis's, the rest the hosts'."""

    epoch: int
    members: tuple[HostId, ...]
    arrivals: tuple[Arrival, ...]
    release_us: int | None
    release_arrivals: int | None = None  # how many had arrived when the barrier released; None: the record does not say
    hosts: tuple[HostProof, ...]


def shortcomings(proof: Proof) -> list[str]:
    """What keeps this proof from showing one instant over all its guests; empty if nothing does."""
    found: list[str] = []
    members = set(proof.members)
    arrived = {arrival.host_id for arrival in proof.arrivals}
    told = {host.host_id for host in proof.hosts}
    silent = members - told
    # where the script has counted all of them, a host that left no record only cannot say when it reported
    unreported = members - arrived - (silent if proof.release_arrivals == len(members) else set())
    found += [f"host {host_id} never reported its guests held" for host_id in sorted(unreported)]
    found += [f"host {host_id} left no record of its hold" for host_id in sorted(silent)]
    found += [f"host {host_id} is no member of this hold" for host_id in sorted((arrived | told) - members)]
    if proof.release_us is None:
        found.append("the barrier was never released")
    elif proof.release_arrivals is not None and proof.release_arrivals < len(members):
        found.append("the barrier was released before the last host reported")
    for host in proof.hosts:
        found += _host_shortcomings(host)
    return found


def failures(proof: Proof) -> list[str]:
    """The shortcomings that the holds which were asked for do not explain: a guest that was not to be held, or only in
    part, has promised nothing.
    """
    hosts = [(host, tuple(guest for guest in host.guests if guest.promises)) for host in proof.hosts]
    if not any(guests for _, guests in hosts):
        return []
    return shortcomings(
        proof.model_copy(update={"hosts": tuple(host.model_copy(update={"guests": guests}) for host, guests in hosts)})
    )


def _host_shortcomings(host: HostProof) -> list[str]:
    if host.report_ns is None or host.woken_ns is None:
        return [f"host {host.host_id} was not told of the release and let its guests go by itself"]
    if host.report_ns > host.woken_ns:
        return [f"host {host.host_id} was told of the release before it reported"]
    found = []
    for guest in host.guests:
        if guest.hold.kind is HoldKind.NONE:
            found.append(f"guest {guest.guest_uuid} was not to be held")
        elif guest.moving_disks:
            disks = ", ".join(guest.moving_disks)
            found.append(f"guest {guest.guest_uuid} was not kept still on {disks} by its hold")
        elif not guest.all_frozen:
            number = f"{guest.frozen_filesystems or 0} of {guest.least_filesystems}"
            found.append(f"guest {guest.guest_uuid} froze {number} filesystems")
        elif not guest.own_instant:
            found.append(f"guest {guest.guest_uuid} was not held still while its backup began")
        elif guest.begun_ns is None or guest.begun_ns > host.report_ns:
            found.append(f"guest {guest.guest_uuid} began its backup after host {host.host_id} reported")
        elif guest.thaw_start_ns is None or guest.thaw_start_ns < host.woken_ns:
            found.append(f"guest {guest.guest_uuid} was let go before host {host.host_id} was told of the release")
    return found


def guest_consistency(lacking: Sequence[str], guest: GuestProof) -> Consistency:
    """Return the label of one guest, by its steps and the `shortcomings` of the whole proof: those are found once for all."""
    if not lacking:
        return Consistency.GROUP
    return Consistency.GUEST if guest.own_instant else Consistency.CRASH


def consistency(proof: Proof) -> Consistency:
    """What is proven about a whole capture: no more than about the worst of its guests."""
    if not shortcomings(proof):
        return Consistency.GROUP
    held = all(guest.own_instant for host in proof.hosts for guest in host.guests)
    return Consistency.GUEST if held else Consistency.CRASH
