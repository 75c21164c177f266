"""The guests that runs want or have, in Redis: which other runs want one of mine?

    names.WANTED_GUESTS_KEY     guest ─▶ the captures that want it       a field for each guest
    names.wanted_key(capture)   its guests                               to take them away again

Asked by its own guests, so that it costs a run the same whatever other runs there are; each script has at most AT_ONCE of them,
since Redis answers nobody else meanwhile. Runs that are not active count for nothing, and go when they are met.
Of two runs that want one guest, the one that comes later finds the other: a guest's field is read and written in one script.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, cast

import redis

from freezeframe.contract import names
from orchestrator.run import LONGEST_RUN_S

#: Guests of one script, some 0.5 ms of Redis's time.
AT_ONCE: Final = 200

_WANT: Final = """
-- KEYS the wanted guests, the run's guests, the active runs. ARGV the capture id, seconds to keep, guests.
-- Returns {guest, the other runs that want it, …} of those guests that others want.
local guests = {unpack(ARGV, 3)}
local known, is_active, changed, shared = redis.call('HMGET', KEYS[1], unpack(guests)), {}, {}, {}
for i, guest in ipairs(guests) do
    local others = {}
    for id in string.gmatch(known[i] or '', '%S+') do
        if id ~= ARGV[1] then
            if is_active[id] == nil then is_active[id] = redis.call('SISMEMBER', KEYS[3], id) end
            if is_active[id] == 1 then others[#others + 1] = id end
        end
    end
    if #others > 0 then
        shared[#shared + 1] = guest
        shared[#shared + 1] = table.concat(others, ' ')
    end
    others[#others + 1] = ARGV[1]
    local wanted = table.concat(others, ' ')
    if wanted ~= known[i] then
        changed[#changed + 1] = guest
        changed[#changed + 1] = wanted
    end
end
if #changed > 0 then redis.call('HSET', KEYS[1], unpack(changed)) end
redis.call('SADD', KEYS[2], unpack(guests))
redis.call('EXPIRE', KEYS[2], ARGV[2])
return shared
"""

_LEAVE: Final = """
-- KEYS the wanted guests, the run's guests. ARGV the capture id, guests.
local guests = {unpack(ARGV, 2)}
local known, changed, gone = redis.call('HMGET', KEYS[1], unpack(guests)), {}, {}
for i, guest in ipairs(guests) do
    local others = {}
    for id in string.gmatch(known[i] or '', '%S+') do
        if id ~= ARGV[1] then others[#others + 1] = id end
    end
    if #others > 0 then
        changed[#changed + 1] = guest
        changed[#changed + 1] = table.concat(others, ' ')
    else
        gone[#gone + 1] = guest
    end
end
if #changed > 0 then redis.call('HSET', KEYS[1], unpack(changed)) end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
redis.call('SREM', KEYS[2], unpack(guests))
"""


def digest(guests: Iterable[str]) -> str:
    """Return what is the same for the same guests, and for no others."""
    return hashlib.sha256("\n".join(sorted(guests)).encode()).hexdigest()


def want(client: redis.Redis, capture_id: str, guests: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Have a run want these guests and no others. Return those that other runs want, with their ids. Raises redis errors."""
    script, keys = client.register_script(_WANT), [*_keys(capture_id), names.ACTIVE_RUNS_KEY]
    found: dict[str, tuple[str, ...]] = {}
    rest = iter(guests)
    while some := list(islice(rest, AT_ONCE)):
        told = cast("list[str]", script(keys=keys, args=[capture_id, LONGEST_RUN_S, *some]))
        found |= {guest: tuple(others.split()) for guest, others in zip(told[::2], told[1::2], strict=True)}
    if client.scard(names.wanted_key(capture_id)) > len(guests):
        wanted = frozenset(guests)
        for some in _all_of(client, capture_id):
            _leave(client, capture_id, [guest for guest in some if guest not in wanted])
    return found


def leave(client: redis.Redis, capture_id: str) -> None:
    """Have a run want no guest any more. Raises redis errors."""
    while some := cast("list[str]", client.srandmember(names.wanted_key(capture_id), AT_ONCE)):
        _leave(client, capture_id, some)


def first_of(found: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return of each run that wants some of these guests one of the guests. Pure."""
    return {other: guest for guest, others in found.items() for other in others}


def _leave(client: redis.Redis, capture_id: str, guests: Collection[str]) -> None:
    if guests:
        client.register_script(_LEAVE)(keys=_keys(capture_id), args=[capture_id, *guests])


def _all_of(client: redis.Redis, capture_id: str) -> Iterator[list[str]]:
    """Return the guests that a run wants, a part after another; none is passed over that is there all the time."""
    cursor = 0
    while True:
        cursor, some = cast("tuple[int, list[str]]", client.sscan(names.wanted_key(capture_id), cursor, count=AT_ONCE))
        yield some
        if cursor == 0:
            return


def _keys(capture_id: str) -> list[str]:
    return [names.WANTED_GUESTS_KEY, names.wanted_key(capture_id)]
