"""How long a guest may be held in each case, and why. All of them are deadlines; none is a speed of this machine."""

from __future__ import annotations

from collections.abc import Mapping

from .two import IN_TURN, Pair, Part, Way

#: The captures' own --hold-timeout: from a host's first freeze until it lets its guests go, released or not.
HOLD_S = 5.0
#: --muster-timeout: nobody is held during it.
MUSTER_S = 12.0
#: What the guard grants on top of a hold's deadline (FREEZEFRAME_GUARD_GRACE_S, the default).
GRACE_S = 2.0
#: A new connection to Redis that was begun just before the deadline: connecting 1 s, its greeting 1 s. On one that stands an
#: answer is waited for until the deadline and no longer (freezeframe/barrier/gate.py).
EXCHANGE_S = 2.0
#: One answer of an agent (FREEZEFRAME_AGENT_TIMEOUT_S and the guard's AGENT_S).
AGENT_S = 5.0
#: The longest pause between two tries of the guard (LONGEST_PAUSE_S).
RETRY_S = 2.0
#: Seconds after which the supervisor, which is the test, starts a part that has died.
RESTART_S = 1.0
#: Of one call of libvirt, for the guard (workers/guard/letting_go.py: LIBVIRT_S).
LIBVIRT_S = 3.0
#: How coarse the eye is: a guest's writer is seen to be held from one of its acknowledged records to the next, and they are
#: 0.2 s apart and as much later as two busy cores let them be.
EYE_S = 2.0

#: The host lets go by itself: its deadline, and an exchange with Redis in hand at that moment.
BY_HOST_S = HOLD_S + EXCHANGE_S
#: The guard lets go: the lease's deadline.
BY_GUARD_S = HOLD_S + GRACE_S
#: Whoever of the two is left.
EITHER_S = max(BY_HOST_S, BY_GUARD_S)


def by_next_guard(down_s: float) -> float:
    """Worker and guard are both dead: held until then at the most as long as the hold's deadline; until the supervisor has
    started the next guard (RESTART_S and what starting takes); and until its first tries have succeeded.
    """
    return HOLD_S + down_s + RETRY_S + AGENT_S


def by_agent(down_s: float) -> float:
    """Nobody can thaw a guest whose agent does not run: once it does, the guard's next try, or what waits in its queue."""
    return EITHER_S + down_s + RETRY_S + AGENT_S


def past_libvirt() -> float:
    """Libvirt does not answer: the guard thaws over the agent's own socket, once it has found that out."""
    return EITHER_S + LIBVIRT_S + AGENT_S


def late_call() -> float:
    """A call that nobody waits for any more takes effect: until the guard's next look, and its thaw."""
    return RETRY_S + LIBVIRT_S + AGENT_S


def by_libvirt(down_s: float) -> float:
    """Nobody can thaw without libvirt: the guard's next try after it is back, once libvirt has found the agent again."""
    return EITHER_S + down_s + RETRY_S + AGENT_S


def by_pair(pair: Pair, before_s: float, away_s: Mapping[Part, float]) -> float:
    """Two faults in one capture. `before_s` is how long guests may have been held when the first struck, `away_s` of each part
    from then until it works again.

    Who can let a guest go, and what each needs:

        the control worker    at the hold's deadline    libvirt
        the guard             at the lease's deadline,  libvirt; past a libvirtd that is dead, QEMU's own sockets. One that
                              or a hang-up before it    hangs keeps those to itself, so that nobody can do anything
        the next guard        when it starts            the same

    Redis is needed by neither. What nobody can do without is waited for, if the deadline has not let the guests be held for as
    long anyway; then the next try must succeed.
    """
    faults = {fault.part: fault.way for fault in (pair.first, pair.second)}
    needed = _needed(faults)
    past_s = LIBVIRT_S if faults.get(Part.LIBVIRTD) is Way.KILLED else 0.0
    if needed:
        away = max(away_s[part] for part in needed)
        held_s = max(EITHER_S, before_s + away) + past_s + RETRY_S + AGENT_S
    elif past_s:
        held_s = past_libvirt()
    else:
        held_s = BY_HOST_S if Part.GUARD in faults else BY_GUARD_S
    # a freeze that was under way when the first fault struck may take effect when everybody has given up already
    return max(held_s, late_call()) if pair.step == IN_TURN else held_s


def _needed(faults: Mapping[Part, Way]) -> set[Part]:
    """Return the parts that must work again before anybody can let a guest go."""
    needed = {Part.LIBVIRTD} if faults.get(Part.LIBVIRTD) is Way.SUSPENDED else set()
    if Part.GUARD in faults and (Part.CONTROL in faults or Part.LIBVIRTD in faults):
        # a worker that is dead or suspended does nothing, and one without libvirt leaves its guests to the guard
        needed.add(Part.GUARD)
    return needed
