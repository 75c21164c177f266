"""Epochs: numbers that captures get in the order in which they are planned. A host refuses an order that is older than what a
guest has seen.

    epoch = the greatest of: Redis's clock in µs · the last one in Redis + 1 · the highest that any host has seen + 1

The clock keeps epochs rising when Redis comes back empty; what hosts have seen does, when the clock has been ahead before that.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

#: The highest epoch that a host may tell: the clock has it in the year 2223, and what is above was written by no orchestrator.
MOST_SEEN: Final = 8 * 10**15

#: Below that Lua's numbers and those of JSON have no gaps, so that an epoch plus one is always another.
Epoch = Annotated[int, Field(ge=0, lt=2**53)]
SeenEpoch = Annotated[int, Field(ge=0, le=MOST_SEEN)]
