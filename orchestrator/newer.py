"""The inventory once it has certainly been looked at anew by hosts that contradict each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from freezeframe.presence import ALIVE_S, KnownHost

#: Entries of each host to wait for. The first may have been made before the other host's that contradicts it.
ENTRIES: Final = 2
#: Seconds between two looks into Redis.
LOOK_S: Final = 0.2


def newer_hosts(
    read: Callable[[], list[KnownHost]],
    host_ids: Sequence[str],
    wait: Callable[[float], None] = time.sleep,
    patience_s: float = float(ENTRIES * ALIVE_S),
) -> list[KnownHost]:
    """Return the inventory when each of these hosts has published itself twice more, or is down.

    After `patience_s` as it is then: a host that publishes so seldom counts as down.
    """
    seen: dict[str, set[object]] = {host_id: set() for host_id in host_ids}
    waited_s = 0.0
    while True:
        hosts = read()
        for host in hosts:
            if host.entry.host_id in seen:
                seen[host.entry.host_id].add(host.entry.at if host.alive else None)
        settled = all(None in entries or len(entries) > ENTRIES for entries in seen.values())
        if settled or waited_s >= patience_s:
            return hosts
        wait(LOOK_S)
        waited_s += LOOK_S
