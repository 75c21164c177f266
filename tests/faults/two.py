"""Two faults in one capture: eight single faults, and every pair of them that strikes two different parts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, permutations


class Part(StrEnum):
    """The parts that a hold depends on; of the first three host-a's."""

    CONTROL = "control"
    GUARD = "guard"
    LIBVIRTD = "libvirtd"
    REDIS = "Redis"


class Way(StrEnum):
    KILLED = "killed"  # SIGKILL, started again by its supervisor
    SUSPENDED = "suspended"  # SIGSTOP, and SIGCONT when every deadline has passed


@dataclass(frozen=True)
class Fault:
    """One part, struck in one way."""

    part: Part
    way: Way

    def __str__(self) -> str:
        return f"{self.part} {self.way}"


@dataclass(frozen=True)
class Pair:
    """Two faults of two parts; `step` tells when they strike."""

    first: Fault
    second: Fault
    step: str

    @property
    def name(self) -> str:
        return f"{self.first}, {'then ' if self.step == IN_TURN else ''}{self.second}"

    @property
    def cell(self) -> tuple[str, str]:
        """The names of the cell's row in the account."""
        return self.name, self.step


#: Both strike while alpha and beta are held and wait for gamma.
AT_ONCE = "at once"
#: The first strikes while the agents of alpha and beta are told to freeze, the second when both guests are frozen.
IN_TURN = "in turn"

FAULTS = tuple(Fault(part, way) for part in Part for way in Way)
PAIRS = tuple(
    Pair(one, other, step)
    for step, pairs in ((AT_ONCE, combinations(FAULTS, 2)), (IN_TURN, permutations(FAULTS, 2)))
    for one, other in pairs
    if one.part is not other.part
)


def order_of_strikes(pair: Pair) -> tuple[Fault, Fault]:
    """Return the faults of a pair that strikes at once, the more dangerous order: what still runs for some milliseconds
    must not be what could let the guests go because of the other fault.
    """
    one, other = sorted((pair.first, pair.second), key=lambda fault: (fault.way is Way.KILLED, _LAST.index(fault.part)))
    return one, other


#: The death of a control worker is what a guard acts upon, so the guard is struck before it.
_LAST = (Part.GUARD, Part.LIBVIRTD, Part.REDIS, Part.CONTROL)
