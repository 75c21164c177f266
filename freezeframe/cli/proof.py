"""The proof of a capture's instant, explained: who was there, what happened when, and what follows from it.

Times of hosts are Redis's, from each host's measured clock, and count from the release: negative is before it. Where nothing
was released they count from the last report, and without any report from the first hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from freezeframe.cli.following import consistency_text
from freezeframe.cli.output import fields, ms_text, out, table
from freezeframe.cli.timeline import Hold, draw, legend
from freezeframe.contract.clock import RedisTime
from freezeframe.contract.doubts import doubts
from freezeframe.contract.proof import GuestProof, HostProof, Proof, shortcomings
from freezeframe.repository import Manifest
from freezeframe.repository.label import mislabels

#: The links of the chain, each of which `shortcomings` looks at; together they are one instant.
_CHAIN = (
    "Every guest was still from before its backup began until it was let go.",
    "Every backup had begun before its host reported.",
    "Every report had come before the release.",
    "Every guest was let go after its host was told of the release.",
)

#: What is shown of each guest; what of it is left out in a terminal of fewer columns.
_STEPS = ("hold", "held", "begun", "let go", "runs", "±", "window")
_LESS_WANTED = ("held", "runs", "±")
_NARROW = 72
#: A guest's UUID in a sentence.
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def show_proof(manifest: Manifest) -> None:
    console = out()
    proof = manifest.proof
    if proof is None:
        console.print(Text("The capture has no proof.", "yellow"))
        return
    console.print(fields(_summary(manifest, proof)))
    zero = _zero(proof)
    _heading(console, f"Reports, in the order in which Redis saw them; ms from {zero.name}")
    reports = ["sent", "arrived", "told", "±"]
    console.print(table(["host", *reports], _reports(proof, zero), right=reports, whole=reports))
    _heading(console, f"Steps of each guest; ms from {zero.name}")
    wanted = [column for column in _STEPS if console.width >= _NARROW or column not in _LESS_WANTED]
    rows = [[name, *(row[column] for column in wanted)] for name, row in _steps(manifest, proof, zero)]
    console.print(table(["guest", *wanted], rows, right=wanted, whole=wanted))
    _show_holds(console, manifest, proof, zero)
    _conclude(console, manifest, proof)


def _summary(manifest: Manifest, proof: Proof) -> list[tuple[str, str | Text]]:
    return [
        ("capture", manifest.capture_id),
        ("epoch", str(proof.epoch)),
        ("members", ", ".join(proof.members)),
        ("release", _moment(proof.release_us) if proof.release_us is not None else Text("never", "yellow")),
        ("label", consistency_text(manifest.consistency)),
    ]


def _reports(proof: Proof, zero: _Zero) -> Iterator[list[str]]:
    """A line a host: when it sent its report, when Redis had it, when the host was told, and how sure the host's times are."""
    arrived = {one.host_id: one.redis_us for one in sorted(proof.arrivals, key=lambda one: one.redis_us)}
    hosts = {host.host_id: host for host in proof.hosts}
    for host_id in dict.fromkeys([*arrived, *proof.members, *hosts]):
        host, at_us = hosts.get(host_id), arrived.get(host_id)
        sent, told = (host.redis_time(host.report_ns), host.redis_time(host.woken_ns)) if host else (None, None)
        seen = zero.ms_to(at_us) if at_us is not None else None
        yield [
            host_id,
            _at(zero, sent),
            _ms(seen) if at_us is not None else "never",
            _at(zero, told),
            _give(sent, told),
        ]


def _steps(manifest: Manifest, proof: Proof, zero: _Zero) -> Iterator[tuple[str, dict[str, str]]]:
    for name, host, guest in _guests(manifest, proof):
        times = [host.redis_time(at_ns) for at_ns in guest.steps().values()]
        row = [*(_at(zero, one) for one in times), _give(*times), ms_text(guest.hold_ms)]
        yield name, dict(zip(_STEPS, row, strict=True))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, "bold"), soft_wrap=True)


def _show_holds(console: Console, manifest: Manifest, proof: Proof, zero: _Zero) -> None:
    """The hold windows side by side, of the hosts that measured their clocks; the others have no place on one line."""
    unmeasured = [host.host_id for host in proof.hosts if host.clock_before is None]
    holds = [_hold(zero, *one) for one in _guests(manifest, proof) if one[1].clock_before is not None]
    if holds:
        console.print()
        for line in draw(holds, console.width):
            console.print(Text(line), soft_wrap=True)
        console.print(Text(legend(zero.name), "dim"))
    for host_id in unmeasured:
        said = f"Host {host_id} did not measure its clock against Redis's: its steps have no place on this line."
        console.print(Text(said, "dim"), soft_wrap=True)


def _hold(zero: _Zero, name: str, host: HostProof, guest: GuestProof) -> Hold:
    times = (host.redis_time(at_ns) for at_ns in guest.steps().values())
    return Hold(name, tuple(zero.ms_to(one.redis_us) if one else None for one in times), ms_text(guest.hold_ms))


def _conclude(console: Console, manifest: Manifest, proof: Proof) -> None:
    console.print()
    missing = shortcomings(proof)
    for line in _CHAIN if not missing else ():
        console.print(line, soft_wrap=True)
    if not missing:
        console.print(
            Text("So every thaw came after every begin: all guests show one instant.", "green"), soft_wrap=True
        )
    names = {guest.guest_uuid: guest.name for guest in manifest.guests}
    for reason in missing:
        console.print(Text(f"short of one instant: {_named(reason, names)}", "yellow"), soft_wrap=True)
    wrong = mislabels(manifest)
    if not wrong:
        console.print(f"The label {manifest.consistency} is what the proof gives.", soft_wrap=True)
    for reason in wrong:
        console.print(Text(f"mislabelled: {reason}", "bold red"), soft_wrap=True)
    for reason in doubts(proof):
        console.print(Text(f"doubt: {reason}; the label does not rest on clocks", "yellow"), soft_wrap=True)


def _guests(manifest: Manifest, proof: Proof) -> list[tuple[str, HostProof, GuestProof]]:
    """Every guest of the proof with its name, in the order in which they were held as far as that is known."""
    names = {guest.guest_uuid: guest.name for guest in manifest.guests}
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    found = []
    for host in proof.hosts:
        for guest in host.guests:
            name = names.get(guest.guest_uuid, guest.guest_uuid)
            found.append((f"{name}@{host.host_id}" if name in twice else name, host, guest))
    return sorted(found, key=_held_at)


def _held_at(one: tuple[str, HostProof, GuestProof]) -> tuple[bool, int]:
    """For sorting; guests of hosts that did not measure come last."""
    at = one[1].redis_time(one[2].hold_start_ns)
    return (at is None, at.redis_us if at else one[2].hold_start_ns or 0)


def _named(reason: str, names: Mapping[str, str]) -> str:
    """Return a reason with the names of guests in place of their UUIDs."""
    return _UUID.sub(lambda found: names.get(found[0], found[0]), reason)


class _Zero(NamedTuple):
    """The moment from which times count."""

    name: str
    at_us: int | None  # None: not known, so that nothing is shown beside it

    def ms_to(self, redis_us: int) -> float:
        return 0.0 if self.at_us is None else (redis_us - self.at_us) / 1000


def _zero(proof: Proof) -> _Zero:
    """Return the release; without one the last report, and without any report the first hold that is known."""
    if proof.release_us is not None:
        return _Zero("the release", proof.release_us)
    if proof.arrivals:
        return _Zero("the last report", max(one.redis_us for one in proof.arrivals))
    holds = (host.redis_time(guest.hold_start_ns) for host in proof.hosts for guest in host.guests)
    return _Zero("the first hold", min((one.redis_us for one in holds if one), default=None))


def _at(zero: _Zero, time: RedisTime | None) -> str:
    return "–" if time is None else _ms(zero.ms_to(time.redis_us))


def _ms(duration_ms: float | None) -> str:
    return "–" if duration_ms is None else f"{duration_ms:+.2f}".replace("-", "−")


def _give(*times: RedisTime | None) -> str:
    known = [one.uncertainty_us for one in times if one]
    return f"{max(known) / 1000:.2f}" if known else "–"


def _moment(redis_us: int) -> str:
    return datetime.fromtimestamp(redis_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC by Redis's clock")
