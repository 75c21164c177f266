"""A limit to what a verification sets aside: on a host with bad memory, or a network card that alters data, all seems damaged.

    objects looked at     16,000     100,000     1,000,000
    set aside at most         16         100         1,000

Disks that fail lose more than that, too. Then the next run goes on, or another host says so at once (`--set-aside-at-most`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

#: A chunk is 512 KiB as a rule, and a sector that a disk has lost is one chunk: so many are no sign of a bad host.
LEAST: Final = 16

#: Of all that was looked at so far. A disk is replaced long before it has lost that much.
SHARE: Final = Fraction(1, 1000)

#: Bad reads, wrong at first and right when they are repeated, that may happen: a cable, once in a night.
BAD_READS: Final = 3

_ADVICE: Final = (
    "This host's memory or network is suspected. Verify on another host before anything else: `freezeframe verify --all`. "
    "What was set aside is put back there if it is sound; restores find it meanwhile."
)


@dataclass(frozen=True)
class Restraint:
    """`at_most`: a number that was asked for, instead of a share."""

    at_most: int | None = None

    def reason(self, looked_at: int, set_aside: int, bad_reads: int) -> str | None:
        """Return why nothing more may be set aside; None while it may. Pure."""
        if bad_reads > max(BAD_READS, int(looked_at * SHARE / 100)):
            return (
                f"{bad_reads} of {looked_at} objects were wrong at the first look and right at the second, so nothing is set "
                f"aside any more. {_ADVICE}"
            )
        most = max(LEAST, int(looked_at * SHARE)) if self.at_most is None else self.at_most
        if set_aside >= most:
            return f"{set_aside} of {looked_at} objects were set aside, and no more are by this run. {_ADVICE}"
        return None
