"""The board of admission: the entries of all runs that have a place or wait for one, in Redis and as this process knows them.

    names.ADMISSION_KEY           `version`, and capture ─▶ entry (`line.Entry`)
    names.ADMISSION_CHANGES_KEY   capture ─▶ the version in which its entry was changed

Every look at a run that waits needs the board, and every change of it is read by every orchestrator: so only entries that
have changed are read, MOST_BYTES at once. An entry is put by compare-and-set of the version.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import redis

from freezeframe.contract import names
from freezeframe.contract.event import Queued
from orchestrator.line import Entry, Limits, read_entry, waiting

#: What one command returns of entries, by length, and the entry with which it is reached: 12 kB for a capture of 1,000 hosts.
MOST_BYTES: Final = 256 * 1024
#: Entries that are read by their names at once.
AT_ONCE: Final = 20
#: Seconds after which all entries are read again: a failover may have lost some changes, and as many have come since.
ANEW_S: Final = 60.0

_VERSION: Final = "version"
#: In place of an entry that is told of and is not there.
_NO_ENTRY: Final = "-"

_READ: Final = """
-- KEYS the board, its changes. ARGV the version up to which changes are known ("" for none), bytes. Changes nothing.
-- Returns {version, number of entries, "1" if there are more changes, id, its version, its entry or "-", …}, the oldest first.
local version = redis.call('HGET', KEYS[1], 'version') or '0'
local number = math.max(redis.call('HLEN', KEYS[1]) - 1, 0)
local found, bytes = {version, number, '0'}, 0
local from = '-inf'
if ARGV[1] ~= '' then from = '(' .. ARGV[1] end
local changed = redis.call('ZRANGEBYSCORE', KEYS[2], from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
for i = 1, #changed, 2 do
    if bytes >= tonumber(ARGV[2]) then
        found[3] = '1'
        break
    end
    local entry = redis.call('HGET', KEYS[1], changed[i]) or '-'
    bytes = bytes + #entry
    for _, one in ipairs({changed[i], changed[i + 1], entry}) do found[#found + 1] = one end
end
if #changed == 2000 then found[3] = '1' end
return found
"""

_PUT: Final = """
-- KEYS the board, its changes, the active runs. ARGV the version that it must have, a capture id, its entry.
-- Returns 1 if the entry was set, 0 if the board has changed, -1 if the run has ended.
if redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 0 then return -1 end
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[1], 'version', 1), ARGV[2])
return 1
"""

_REMOVE: Final = """
-- KEYS the board, its changes, the active runs. ARGV a capture id, "1" to let it be if the run is active.
-- Returns 1 if an entry was removed. Of that the number of entries tells, so the version stays.
if ARGV[2] == '1' and redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])
"""


@dataclass(frozen=True)
class Board:
    """All entries as they are at a version."""

    version: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    read_at: float = float("-inf")  # when all of it was read
    _waiting: dict[Limits, Mapping[str, Queued]] = field(default_factory=dict, compare=False, repr=False)

    def waiting(self, limits: Limits) -> Mapping[str, Queued]:
        """Return the runs that have to wait, found once."""
        if limits not in self._waiting:
            self._waiting[limits] = waiting(self.entries, limits)
        return self._waiting[limits]


class Boards:
    """The board that was read last, and which runs' entries are known to follow them. Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = Board()
        self._lock = threading.Lock()
        #: The versions of runs' records that their entries follow (`admission.follow`).
        self.followed: dict[str, str] = {}

    def read(self, client: redis.Redis) -> Board:
        """Return the board as it is: one command, if it has not changed. Raises redis errors."""
        with self._lock:
            last = self._last
        if self._clock() - last.read_at >= ANEW_S:
            last = Board(read_at=self._clock())
        board = self._brought_on(client, last)
        for lost in self.followed.keys() - board.entries.keys():  # in a failover; put back at the next look at its run
            self.followed.pop(lost, None)
        with self._lock:
            self._last = board
        return board

    def keep_only(self, captures: Collection[str]) -> None:
        """Keep nothing of other runs: another orchestrator may have ended them."""
        for capture_id in [one for one in list(self.followed) if one not in captures]:
            self.followed.pop(capture_id, None)

    def _brought_on(self, client: redis.Redis, last: Board) -> Board:
        script, keys = client.register_script(_READ), [names.ADMISSION_KEY, names.ADMISSION_CHANGES_KEY]
        known, entries, more, changed = last.version, dict(last.entries), "1", False
        version, number = "0", 0
        while more == "1":
            version, number, more, *found = cast(
                "tuple[str, int, str, str]", script(keys=keys, args=[known, MOST_BYTES])
            )
            if known and int(version) < int(known):  # Redis has lost it, and with it what runs have told it
                self.followed.clear()
                return self._brought_on(client, Board(read_at=self._clock()))
            for capture_id, at, text in zip(found[::3], found[1::3], found[2::3], strict=True):
                known, changed = at, True
                if text != _NO_ENTRY:
                    entries[capture_id] = read_entry(text)
        if number != len(entries):  # some have gone, or are of an orchestrator that tells of no changes
            changed = True
            entries = _as_there(client, entries)
        return Board(version, entries, last.read_at) if changed or version != last.version else last


def _as_there(client: redis.Redis, known: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return all entries that are there; those that are not known are read."""
    there = [one for one in cast("list[str]", client.hkeys(names.ADMISSION_KEY)) if one != _VERSION]
    entries = {one: known[one] for one in there if one in known}
    new = [one for one in there if one not in known]
    for start in range(0, len(new), AT_ONCE):
        some = new[start : start + AT_ONCE]
        texts = cast("list[str | None]", client.hmget(names.ADMISSION_KEY, some))
        entries |= {one: read_entry(text) for one, text in zip(some, texts, strict=True) if text is not None}
    return entries


def put(client: redis.Redis, version: str, capture_id: str, entry: Entry) -> bool:
    """Return True if the entry is there, or the run has ended and needs none; False if the board has changed."""
    keys = [names.ADMISSION_KEY, names.ADMISSION_CHANGES_KEY, names.ACTIVE_RUNS_KEY]
    return bool(client.register_script(_PUT)(keys=keys, args=[version, capture_id, entry.model_dump_json()]))


def remove(client: redis.Redis, capture_id: str) -> None:
    """Remove the entry of a run. Raises redis errors."""
    _remove(client, capture_id, "")


def remove_ended(client: redis.Redis, captures: Collection[str]) -> list[str]:
    """Remove the entries of those runs that are not active any more; return which had one. Raises redis errors."""
    return [capture_id for capture_id in captures if _remove(client, capture_id, "1")]


def _remove(client: redis.Redis, capture_id: str, unless_active: str) -> bool:
    keys = [names.ADMISSION_KEY, names.ADMISSION_CHANGES_KEY, names.ACTIVE_RUNS_KEY]
    return bool(client.register_script(_REMOVE)(keys=keys, args=[capture_id, unless_active]))
