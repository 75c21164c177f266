"""The life of a lease: a table of stages and events. Pure; times are seconds of one clock, the guard's.

A lease is *let go* when the guard lets its guests run, and *retired* when it may leave the disk. The two differ, because a
guest that runs now may be held a moment later by a call that is still under way: a suspend waits up to 30 s for the guest's
job, and libvirtd carries out a call although the client that sent it is gone.

    stage         event                                                 next stage
    armed         the holder disarms the last guest                     retired
    armed         deadline, hang-up                                     letting go
    (on disk)     the guard starts and finds the lease                  letting go; guests that are settled are retired
    letting go    a look: the guest is held, or there is no answer      letting go; its quiet time begins anew
    letting go    each guest was quiet for SETTLE_S; no holder          retired
    letting go    each guest was quiet for SETTLE_S; holder connected   waiting
    waiting       hang-up                                               letting go
    any but armed the holder disarms a guest: it runs, no call pending  the guest is retired, and the answer is "cut short"

A guest's *quiet time* begins with a look that found it running (or gone), and not before the last moment at which its holder
may have sent a call:

    the holder hung up          then
    the guard was restarted     the lease's deadline: the holder may live on, and keeps to an earlier deadline of its own
    the host was restarted      no call can be pending: one look is enough
    the holder is connected     not yet: a process that was suspended may send its call when it continues
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Seconds for which a lease may be armed; a deadline further ahead is none that a guard has written.
LONGEST_LEASE_S: Final = 700.0
#: Seconds that libvirt keeps a call waiting for the guest's job. [libvirt src/qemu/qemu_domain.h: QEMU_JOB_WAIT_TIME]
JOB_WAIT_S: Final = 30.0
#: Seconds of one answer of an agent. A freeze has the hold's own time-out, which ends before the lease's deadline.
AGENT_S: Final = 5
#: Seconds between two looks, and what a busy host adds.
MARGIN_S: Final = 2.0
#: Seconds that a guest must be seen running until no call can be pending that would hold it.
SETTLE_S: Final = JOB_WAIT_S + AGENT_S + MARGIN_S

#: Seconds between two looks at a guest: short at first, then no burden on a host in trouble.
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0


class Stage(StrEnum):
    """The states of a lease."""

    ARMED = "armed"  # the holder may hold its guests
    LETTING_GO = "letting-go"  # its guests are let go, and looked at
    WAITING = "waiting"  # all run and no call is pending, but its holder lives and may send one
    RETIRED = "retired"  # it may leave the disk


class Look(StrEnum):
    """The answer of one look at a guest, after an attempt to let it go."""

    RUNS = "runs"
    GONE = "gone"  # no QEMU runs for it
    HELD = "held"
    NO_ANSWER = "no-answer"


@dataclass
class _Guest:
    quiet_since: float | None = None
    settled: bool = False
    looking: bool = False
    next_look: float = 0.0
    pause_s: float = FIRST_PAUSE_S


def is_possible(deadline: float, now: float) -> bool:
    """Return True if a guard of this boot can have written the deadline: of another, the guests would be looked at for ever."""
    return deadline <= now + LONGEST_LEASE_S


class LeaseLife:
    """One lease. Not for sharing between threads without a lock."""

    def __init__(self, guests: Iterable[str], deadline: float, holder: int) -> None:
        """Begin the life of a lease that `holder`, a connection, has armed."""
        self._guests = {guest: _Guest() for guest in guests}
        self._deadline = deadline
        self._holder: int | None = holder
        self._calls_end: float | None = None  # when the holder may have sent its last call; None: it may still
        self._settle_s = SETTLE_S
        self._stage = Stage.ARMED

    @classmethod
    def found(cls, guests: Iterable[str], deadline: float, now: float, *, same_boot: bool) -> LeaseLife:
        """Begin with a lease that the guard has found at its start. Its deadline is now if no guard can have written it."""
        life = cls(guests, deadline, 0)
        life._holder = None
        if same_boot:
            life._calls_end = max(deadline, now) if is_possible(deadline, now) else now
        else:
            life._calls_end, life._settle_s = now, 0.0
        life._let_go(now)
        return life

    @property
    def stage(self) -> Stage:
        return self._stage if self._guests else Stage.RETIRED

    @property
    def guests(self) -> list[str]:
        """Return the guests that are not retired."""
        return list(self._guests)

    @property
    def all_run(self) -> bool:
        """Return True if the last look at each guest found it running or gone."""
        return all(guest.quiet_since is not None for guest in self._guests.values())

    def ran(self, name: str) -> bool:
        """Return True if the last look at the guest found it running or gone, or the lease names it no more."""
        guest = self._guests.get(name)
        return guest is None or guest.quiet_since is not None

    def time(self, now: float) -> bool:
        """The time is `now`; return True if the lease's deadline has passed just now."""
        if self._stage is not Stage.ARMED or now < self._deadline:
            return False
        self._let_go(now)
        return True

    def hang_up(self, holder: int, now: float) -> bool:
        """A connection has closed; return True if it was the holder's."""
        if self._holder != holder:
            return False
        self._holder, self._calls_end = None, now
        self._let_go(now)
        return True

    def disarm(self, guests: Iterable[str] | None) -> bool:
        """The holder says that these guests (None: all) run and no call of its own is pending.

        Return True if the lease stood until now, so that nobody but the holder has let them go.
        """
        stood = self._stage is Stage.ARMED and bool(self._guests)
        for guest in list(self._guests) if guests is None else guests:
            self._guests.pop(guest, None)
        return stood

    def due(self, now: float) -> list[str]:
        """Return the guests to look at now. `begin_look` and `look`, or `put_off`, must follow for each."""
        if self._stage is not Stage.LETTING_GO:
            return []
        return [name for name, guest in self._guests.items() if not guest.looking and guest.next_look <= now]

    def next_time(self) -> float | None:
        """Return when `time` or `due` will next have something to say; None if only another event can tell."""
        if self._stage is Stage.ARMED:
            return self._deadline
        if self._stage is not Stage.LETTING_GO:
            return None
        return min((guest.next_look for guest in self._guests.values() if not guest.looking), default=None)

    def begin_look(self, name: str) -> None:
        """A look at this guest begins."""
        self._guests[name].looking = True

    def put_off(self, name: str, now: float) -> None:
        """The guest is armed under another lease, whose holder holds it rightly: what is seen of it says nothing here."""
        if (guest := self._guests.get(name)) is not None:
            guest.quiet_since, guest.next_look = None, now + LONGEST_PAUSE_S

    def look(self, name: str, answer: Look, asked: float, now: float) -> None:
        """A look at a guest, begun at `asked`, has ended with this answer."""
        guest = self._guests.get(name)
        if guest is None:
            return
        guest.looking = False
        runs = answer in {Look.RUNS, Look.GONE}
        if not runs:
            guest.quiet_since = None
        elif guest.quiet_since is None:
            guest.quiet_since, guest.pause_s = now, FIRST_PAUSE_S
        guest.next_look, guest.pause_s = now + guest.pause_s, min(guest.pause_s * 2, LONGEST_PAUSE_S)
        guest.settled = self._is_settled(guest, asked)
        if guest.settled and self._calls_end is not None:
            del self._guests[name]
        elif self._guests and all(one.settled for one in self._guests.values()):
            self._stage = Stage.WAITING

    def _is_settled(self, guest: _Guest, asked: float) -> bool:
        if guest.quiet_since is None:
            return False
        since = guest.quiet_since if self._settle_s else asked
        if self._calls_end is not None:
            since = max(since, self._calls_end)
        return asked - since >= self._settle_s

    def _let_go(self, now: float) -> None:
        self._stage = Stage.LETTING_GO
        for guest in self._guests.values():
            guest.settled, guest.next_look, guest.pause_s = False, now, FIRST_PAUSE_S
