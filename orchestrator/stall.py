"""Transfers that are dead, by their own reports and by no clock but the reconciler's.

No other bound knows how long they may take: what a host reads a second, its own limits, and what is before them in its queue
are not known ahead. A capture whose transfers move ends with the life of its session, or by `transfer_timeout_s` if it is set.

| the transfers of a host               | for                | then                                                        |
|---------------------------------------|--------------------|-------------------------------------------------------------|
| say nothing, or always the same       | `transfer_stall_s` | the host is away, or a source hangs; of a run no sooner     |
|                                       |                    | than that after its last order was on its queue             |
| say that they wait for the repository | `transfer_store_s` | it is away for longer than backups may be open for its sake |
| move a byte, of any run               |                    | they live: one may wait long behind others on its host      |
| move, but for one that has begun and  | `transfer_store_s` | that one is given up: its source hangs, as a suspended QEMU |
| says always the same                  |                    | does, and has one of the host's places for good             |

The time for which Redis was away is no silence of a host: its transfers do not need Redis. Nor is what was before a run had
its orders there: the transfers of another run may have ended long ago, and say the same since. Those of a run that was given up
may still wait for the repository, and keep the places of the next run's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from freezeframe.settings import OrchestratorSettings
from orchestrator.errors import TransferStalledError

#: The last reports of a host's transfers, by run and field.
Said = Mapping[str, str]


@dataclass
class _Host:
    said: Said
    moved: Said
    said_at: float
    moved_at: float


@dataclass
class Stalls:
    """Remembers, from look to look, when each host's transfers last said something new, and when they last moved."""

    _hosts: dict[str, _Host] = field(default_factory=dict)
    _transfers: dict[str, dict[str, tuple[str, float]]] = field(
        default_factory=dict
    )  # by run: what each says, since when
    _sent: dict[str, float] = field(default_factory=dict)  # by run: since when all of its orders are on their queues
    _seen_at: float = 0.0
    _blind: bool = False

    def lose_sight(self) -> None:
        """Note that Redis is away: until the next look nobody can tell whether a host says something."""
        self._blind = True

    def see(self, sent: Mapping[str, Collection[str]], pulses: Mapping[str, Said], now: float) -> None:
        """Note what transfers say, by run; what is not told of is forgotten.

        `sent` are the hosts of those runs that have all of their orders on their queues.
        """
        unseen_s = now - self._seen_at if self._blind else 0.0
        self._seen_at, self._blind = now, False
        self._sent = {one: self._sent[one] + unseen_s if one in self._sent else now for one in sent}
        by_host = defaultdict[str, dict[str, str]](dict)
        for capture_id, fields in pulses.items():
            for place, value in fields.items():
                by_host[place.partition("/")[0]][f"{capture_id} {place}"] = value
        transfers = {}
        for capture_id, fields in pulses.items():
            known = self._transfers.get(capture_id, {})
            transfers[capture_id] = {
                place: (value, known[place][1] + unseen_s if place in known and known[place][0] == value else now)
                for place, value in fields.items()
            }
        self._transfers = transfers
        seen = {}
        for host_id in {host_id for hosts in sent.values() for host_id in hosts}:
            said = by_host.get(host_id, {})
            moved = {field: value.partition(" ")[0] for field, value in said.items()}
            last = self._hosts.get(host_id)
            seen[host_id] = _Host(
                said,
                moved,
                now if last is None or _has_news(said, last.said) else last.said_at + unseen_s,
                now if last is None or _has_news(moved, last.moved) else last.moved_at + unseen_s,
            )
        self._hosts = seen

    def copy(self) -> Stalls:
        """Return what is known now: a look in another thread is not to see what a later one finds."""
        return Stalls(dict(self._hosts), dict(self._transfers), dict(self._sent), self._seen_at)

    def speaks(self, capture_id: str, seconds: float, now: float) -> bool:
        """Return True if a transfer of the run, which may have ended, has said something new within that time."""
        return any(now - at <= seconds for _, at in self._transfers.get(capture_id, {}).values())

    def still(self, capture_id: str, seconds: float, now: float) -> dict[str, float]:
        """Return the run's transfers that have begun, and said the same for longer than that: by pulse_field for how long."""
        known = self._transfers.get(capture_id, {})
        return {place: now - at for place, (_, at) in known.items() if now - at > seconds}

    def trouble(
        self, capture_id: str, host_id: str, store: str, settings: OrchestratorSettings, now: float, *, late: bool
    ) -> TransferStalledError | None:
        """Return why a run's transfers on a host are given up; None while they live. `late`: the time of all is over."""
        if late:
            return TransferStalledError(
                f"The transfers on host {host_id} to {store} have not ended within their time.",
                advice="Capture fewer or smaller disks at once, or raise the orchestrator's setting transfer_timeout_s, if it "
                "is set. Without it they have as long as the session of a capture leaves them, about six days.",
            )
        if capture_id not in self._sent:  # the last of these may have no order yet
            return None
        host, sent_at = self._hosts[host_id], self._sent[capture_id]
        said_at, moved_at = max(host.said_at, sent_at), max(host.moved_at, sent_at)
        if now - said_at > settings.transfer_stall_s:
            return TransferStalledError(f"The transfers on host {host_id} to {store} do not move any more.")
        if now - moved_at > settings.transfer_store_s:
            return TransferStalledError(
                f"The transfers on host {host_id} have waited for the repository at {store} for "
                f"{(now - moved_at) / 60:.0f} minutes."
            )
        return None


def _has_news(said: Said, before: Said) -> bool:
    """Return True if a transfer says what it did not say before; that one is not heard of any more is none."""
    return said != before and any(before.get(field) != value for field, value in said.items())
