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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from freezeframe.contract.words import HoldKind
from workers.boot import boot_id, now_s
from workers.guard.table import is_possible

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOLD, _AGENT, _MONITOR = "hold", "agent_socket", "monitor_socket"
_KEY = re.compile(r'"(\w+)"\s*:\s*(?:"(?:[^"\\]|\\.)*)?$')
#: Characters of the longest string: of a path, with each of its bytes escaped, and its key.
_STRING = 6 * 4096 + 64
#: A key and its string, in JSON that may be cut off: the string may hold whatever a guest's name does, escaped.
_SAID = re.compile(rf'"({_HOLD}|{_AGENT}|{_MONITOR})"\s*:\s*("(?:[^"\\]|\\.)*")')


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
    guests = tuple(guest for entry in entries for guest in _of_entry(entry)) or _of_text(text)
    deadline, boot = _seconds(document.get("deadline_s")), document.get("boot_id")
    is_read = len(guests) == len(entries) and all(map(_has_its_sockets, guests, entries))
    is_ours = document.get("v") == 1 and is_read and deadline is not None
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


def _of_entry(entry: object) -> Iterator[FoundGuest]:
    """Return the guests that an entry names, wherever in it: another version may have put them deeper."""
    pairs = list(_pairs(entry))
    said = {key: value for key, value in reversed(pairs) if isinstance(value, str)}  # the first of each
    texts = [text for key, value in pairs if not _is_of_no_guest(key) for text in (key, value) if isinstance(text, str)]
    for guest_uuid in dict.fromkeys(match[0] for text in texts for match in _UUID.finditer(text)):
        yield _guest(guest_uuid, said)


def _pairs(document: object) -> Iterator[tuple[str, object]]:
    """Return each value in a document with the key that it stands under, in their order."""
    left: list[tuple[str, object]] = [("", document)]
    while left:
        key, value = left.pop()
        yield key, value
        if isinstance(value, dict):
            left += reversed(value.items())
        elif isinstance(value, list):
            left += [(key, one) for one in reversed(value)]


def _has_its_sockets(guest: FoundGuest, entry: object) -> bool:
    """Return True if each socket that the entry names was read."""
    sockets = {_AGENT: guest.agent_socket, _MONITOR: guest.monitor_socket}
    return all(value is None or sockets.get(key, Path()) is not None for key, value in _pairs(entry))


def _is_of_no_guest(key: str) -> bool:
    """Return True for a key under which a UUID is no guest's, or may be of another: a socket's path can contain any."""
    return "boot" in key or key in {_AGENT, _MONITOR}


def _of_text(text: str) -> tuple[FoundGuest, ...]:
    """Every UUID that may be a guest's, with what stands between it and the next one."""
    found: dict[str, FoundGuest] = {}
    matches = [match for match in _UUID.finditer(text) if not _is_of_no_guest(_key_before(text, match.start()))]
    ends = [match.start() for match in matches[1:]] + [len(text)] * bool(matches)
    for match, end in zip(matches, ends, strict=True):
        guest = _guest(match[0], _said_in(text[match.end() : end]))
        found.setdefault(guest.guest_uuid, guest)
    return tuple(found.values())


def _key_before(text: str, end: int) -> str:
    """Return the key of the string that stands at `end`, also of a part of it; nothing if there is none."""
    key = _KEY.search(text, max(0, end - _STRING), end)
    return key[1] if key is not None else ""


def _said_in(text: str) -> Mapping[str, str]:
    """Return the strings under the keys of a guest in a piece of JSON, the first of each."""
    said: dict[str, str] = {}
    for key, value in _SAID.findall(text):
        with contextlib.suppress(ValueError):  # an escape that JSON does not have
            said.setdefault(key, json.loads(value))
    return said


def _guest(guest_uuid: str, said: Mapping[str, str]) -> FoundGuest:
    """Return a guest with its hold; if none is named that is known, the one that is let go by all means."""
    hold = said.get(_HOLD)
    return FoundGuest(
        guest_uuid,
        HoldKind(hold) if hold in list(HoldKind) else HoldKind.FREEZE_PAUSE,
        _path(said.get(_AGENT, "")),
        _path(said.get(_MONITOR, "")),
    )


def _path(text: str) -> Path | None:
    """Return a socket's path; None for what no system call takes."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, `\ud800`
        return None
    return Path(text) if text.startswith("/") and "\0" not in text else None


def _of_journal(journal: Path) -> tuple[FoundGuest, ...]:
    """The guests that a capture has held, by the lines of its journal, wherever in its directory they stand."""
    lines: list[str] = []
    for path in sorted(journal.rglob("changes*")):
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")
            lines += [line for line in text.splitlines() if '"hold"' in line]
    return _of_text("\n".join(lines))
