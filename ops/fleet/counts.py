"""What a Redis has done and has: in counts, which are the same on each machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Self

import redis

#: Commands of whoever counts.
_OWN: Final = frozenset({"info", "client|list", "memory|usage", "config|resetstat"})


@dataclass(frozen=True)
class Counts:
    """Of a Redis, since it was started or since an earlier look."""

    commands: Counter[str]  # also those that scripts give
    bytes_in: int  # that clients have sent
    bytes_out: int
    bytes_kept: int  # of keys and values

    @classmethod
    def of(cls, client: redis.Redis) -> Self:
        found: dict[str, Any] = client.info("everything")
        calls = {
            name.removeprefix("cmdstat_"): one["calls"] for name, one in found.items() if name.startswith("cmdstat_")
        }
        return cls(
            commands=Counter({name: number for name, number in calls.items() if name not in _OWN}),
            bytes_in=found["total_net_input_bytes"],
            bytes_out=found["total_net_output_bytes"],
            bytes_kept=found["used_memory_dataset"],
        )

    def __sub__(self, earlier: Counts) -> Counts:
        """Return what came to pass between two looks."""
        return Counts(
            self.commands - earlier.commands,
            self.bytes_in - earlier.bytes_in,
            self.bytes_out - earlier.bytes_out,
            self.bytes_kept - earlier.bytes_kept,
        )

    @property
    def messages(self) -> int:
        """Return how many messages were put on queues."""
        return self.commands["lpush"]
