"""Reading leases of any version, whole or not: a lease names guests that may be held, so nothing of it is passed over.

An upgrade restarts the guard, and then it reads leases that the version before has written. A file may be cut off or
unreadable where a disk has failed. In this order:

    JSON of this version                its guests
    JSON of another version             its guests; unknown keys are ignored, a missing or unknown hold is "freeze and pause"
    anything else                       every UUID in the text, with the words that stand behind it
    a deadline too far ahead            its guests; the deadline is now
    not of this version, or unreadable  and the guests besides that the capture's journal says it has held
    none there either                   no guest; the file stays, the guard reads it again and says so
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freezeframe.contract.words import HoldKind
from workers.boot import boot_id, now_s
from workers.guard.table import is_possible

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOLD = re.compile(r'"hold"\s*:\s*"([a-z-]+)"')
_AGENT = re.compile(r'"agent_socket"\s*:\s*"(/[^"\\]+)"')
_MONITOR = re.compile(r'"monitor_socket"\s*:\s*"(/[^"\\]+)"')
_KEY = re.compile(r'"(\w+)"\s*:\s*"?$')


@dataclass(frozen=True)
class FoundGuest:
    """A guest that a lease names."""

    guest_uuid: str
    hold: HoldKind
    agent_socket: Path | None = None
    monitor_socket: Path | None = None


@dataclass(frozen=True)
class FoundLease:
    """A lease as far as it could be read."""

    capture_id: str
    guests: tuple[FoundGuest, ...]
    deadline_s: float | None = None
    boot_id: str | None = None
    damage: str | None = None  # why it is not a lease as this version writes it


def read_lease(path: Path, journal: Path, now: float | None = None) -> FoundLease:
    """Read a lease; `journal` is the directory of its capture's journal, `now` is of the guard's clock.

    Never raises for what is on disk.
    """
    try:
        found = _in_time(_parse(path.stem, path.read_bytes().decode(errors="replace")), now_s() if now is None else now)
    except OSError as error:
        found = FoundLease(path.stem, (), damage=f"it cannot be read: {error.strerror or error}")
    if found.damage is None:
        return found
    named = {guest.guest_uuid for guest in found.guests}
    others = tuple(guest for guest in _of_journal(journal) if guest.guest_uuid not in named)
    return dataclasses.replace(found, guests=found.guests + others)


def _parse(capture_id: str, text: str) -> FoundLease:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return FoundLease(capture_id, _of_text(text), damage="it is not whole")
    if not isinstance(document, dict):
        return FoundLease(capture_id, _of_text(text), damage="it is no lease")
    entries = document.get("guests")
    entries = entries if isinstance(entries, list) else []
    guests = tuple(_of_entries(entries)) or _of_text(text)
    deadline, boot = _seconds(document.get("deadline_s")), document.get("boot_id")
    is_ours = document.get("v") == 1 and len(guests) == len(entries) and deadline is not None
    damage = None if is_ours else "another version has written it"
    return FoundLease(
        capture_id,
        guests,
        deadline,
        boot if isinstance(boot, str) else None,
        damage if guests else "it names no guest",
    )


def _in_time(found: FoundLease, now: float) -> FoundLease:
    """Take a deadline for damage that no guard of this boot can have written. Another boot had another clock."""
    if found.deadline_s is None or found.boot_id not in {None, boot_id()} or is_possible(found.deadline_s, now):
        return found
    damage = found.damage or f"its deadline is {found.deadline_s - now:g} s ahead"
    return dataclasses.replace(found, deadline_s=None, damage=damage)


def _seconds(value: object) -> float | None:
    """Return a time that this guard could have written; None for what no clock shows, which would never come."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:  # JSON's integers have no end
        return None
    return seconds if math.isfinite(seconds) else None


def _of_entries(entries: Iterable[Any]) -> Iterator[FoundGuest]:
    for entry in entries:
        text = json.dumps(entry)
        for guest in _of_text(text):
            yield FoundGuest(guest.guest_uuid, _hold_in(text), _path_in(_AGENT, text), _path_in(_MONITOR, text))


def _of_text(text: str) -> tuple[FoundGuest, ...]:
    """Every UUID that may be a guest's, with what stands between it and the next one."""
    found: dict[str, FoundGuest] = {}
    matches = list(_UUID.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)] * bool(matches)
    for match, end in zip(matches, ends, strict=True):
        key = _KEY.search(text[: match.start()])
        if key is not None and "boot" in key[1]:
            continue
        about = text[match.end() : end]
        guest = FoundGuest(match[0], _hold_in(about), _path_in(_AGENT, about), _path_in(_MONITOR, about))
        found.setdefault(guest.guest_uuid, guest)
    return tuple(found.values())


def _hold_in(text: str) -> HoldKind:
    """Return the hold that is named; if none is, the one that is let go by all means."""
    match = _HOLD.search(text)
    return HoldKind(match[1]) if match is not None and match[1] in list(HoldKind) else HoldKind.FREEZE_PAUSE


def _path_in(pattern: re.Pattern[str], text: str) -> Path | None:
    match = pattern.search(text)
    return Path(match[1]) if match is not None else None


def _of_journal(journal: Path) -> tuple[FoundGuest, ...]:
    """The guests that a capture has held, by the lines of its journal, wherever in its directory they stand."""
    lines: list[str] = []
    for path in sorted(journal.rglob("changes*")):
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")
            lines += [line for line in text.splitlines() if '"hold"' in line]
    return _of_text("\n".join(lines))
