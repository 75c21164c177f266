-- One gate of the barrier, one script for its verbs, so that a gate is decided in one place.
--
-- KEYS[1]  <gate>            hash: state ("open", "released" or "broken"), at (µs when it was decided), by, why,
--                            arrived (how many members had arrived when it was decided),
--                            visit:<member> (the visit in which that member first arrived)
-- KEYS[2]  <gate>:arrived    sorted set: member -> µs of its first arrival
-- and <gate>:wake:<m>, a list for each member that has arrived: one entry once the gate is decided. Those keys are made
-- here from the members that arrived, so that a call does not carry all members; they share the gate's hash tag.
--
-- ARGV[1]  verb: "arrive", "break" or "look" (changes nothing)
-- ARGV[2]  the member that calls
-- ARGV[3]  how many members there are
-- ARGV[4]  seconds to keep the keys
-- ARGV[5]  why, for "break"
-- ARGV[6]  the visit, for "arrive": what comes with the same word is the same visit, repeated
--
-- Returns {state, at, why, arrived, how many have arrived so far, µs of the caller's arrival or ""}.
-- Nobody is told of all members: a thousand answers with a thousand arrivals each would be 25 MB, with guests held elsewhere.
-- A member that has not arrived when the gate breaks is not woken: it is told when it arrives.
-- A member whose place was taken in another visit is told "taken", and changes nothing: what it did for this visit is not what
-- the others were released by.
local gate, arrived = KEYS[1], KEYS[2]
local verb, caller, members, keep_s, why, visit = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local time = redis.call('TIME')
local now = string.format('%d%06d', time[1], time[2])

local function decide(state)
    -- counted here: that the release follows every arrival is a fact of this script, whatever the wall clock says
    redis.call('HSET', gate, 'state', state, 'at', now, 'by', caller, 'why', why, 'arrived', redis.call('ZCARD', arrived))
    for _, member in ipairs(redis.call('ZRANGE', arrived, 0, -1)) do
        local wake = gate .. ':wake:' .. member
        redis.call('RPUSH', wake, state)
        redis.call('EXPIRE', wake, keep_s)
    end
    return state
end

local state = redis.call('HGET', gate, 'state') or 'open'
if verb == 'arrive' then
    local first = redis.call('HGET', gate, 'visit:' .. caller)
    if first and first ~= visit then
        return {'taken', '0', '', '0', '0', ''}
    end
end
if state == 'open' and verb ~= 'look' then
    if verb == 'break' then
        state = decide('broken')
    else
        redis.call('ZADD', arrived, 'NX', now, caller)
        redis.call('HSETNX', gate, 'visit:' .. caller, visit)
        redis.call('EXPIRE', arrived, keep_s)
        if redis.call('ZCARD', arrived) == members then
            state = decide('released')
        end
    end
    redis.call('EXPIRE', gate, keep_s)
end

return {
    state,
    redis.call('HGET', gate, 'at') or '0',
    redis.call('HGET', gate, 'why') or '',
    redis.call('HGET', gate, 'arrived') or '0',
    tostring(redis.call('ZCARD', arrived)),
    redis.call('ZSCORE', arrived, caller) or ''
}
