"""A token bucket, as arithmetic: from when on some bytes may be read. Pure: the clock is an argument.

    tokens  burst ┤██▆▄▂        ▂▄▆         Kept as one number, the time at which the bucket will be full again: it
                0 ┼─────▂▄▆▄▂▄▆▄──────▶     lies behind while there are tokens to spare, and ahead by what is owed.
                        └ takers wait

Whoever takes is never refused: what the bucket lacks is owed, and the taker waits until it has come in. So takers are served in
the order in which they came, and over any time t no more than rate · t + burst bytes have been let through.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Bytes a second, and how many may come at once after a pause."""

    bytes_s: float
    burst_bytes: int

    @property
    def burst_s(self) -> float:
        return self.burst_bytes / self.bytes_s


def take(full_at_s: float, count: int, now_s: float, rate: Rate) -> tuple[float, float]:
    """Take `count` bytes. When the bucket will be full after that, and from when on they may be read; not before `now_s`."""
    after = max(full_at_s, now_s) + count / rate.bytes_s
    return after, max(after - rate.burst_s, now_s)
