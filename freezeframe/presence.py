"""Presence: hosts publish what they are and have; a host that stops doing so is down, and is not forgotten for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast

import redis
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry

#: Seconds of silence after which a host counts as down: several inventory intervals, so that one lost is no alarm.
ALIVE_S = 10
#: Seconds after which a silent host is forgotten altogether.
REMEMBERED_S = 30 * 86400


@dataclass(frozen=True)
class KnownHost:
    """A host as it last published itself."""

    entry: HostEntry
    alive: bool


@dataclass(frozen=True)
class Place:
    """A guest where it was last seen."""

    host: KnownHost
    guest: GuestEntry


def publish(client: redis.Redis, entry: HostEntry) -> None:
    """Put a host's entry into the inventory. Raises redis errors."""
    pipeline = client.pipeline()
    pipeline.set(names.host_key(entry.host_id), entry.model_dump_json(), ex=REMEMBERED_S)
    pipeline.set(names.alive_key(entry.host_id), "1", ex=ALIVE_S)
    pipeline.execute()


def clock_ahead_s(client: redis.Redis) -> float:
    """Return by how many seconds this machine's clock is ahead of Redis's. Raises redis errors."""
    before = time.time()
    seconds, micros = client.time()
    return (before + time.time()) / 2 - (seconds + micros / 1e6)


def forget(client: redis.Redis, host_id: str) -> bool:
    """Take a host out of the inventory, with what waits for it; False if there is none of that id. Raises redis errors.

    A host that is up publishes itself again.
    """
    queues = [names.control_queue(host_id), names.data_queue(host_id)]
    kept = [f"{kind}.host.{host_id}" for kind in ("unacked", "unacked_index", "unacked_mutex")]
    pipeline = client.pipeline()
    pipeline.delete(names.host_key(host_id))
    pipeline.delete(names.alive_key(host_id), names.machine_key(host_id), *queues, *kept)
    return bool(pipeline.execute()[0])


def known_hosts(client: redis.Redis) -> list[KnownHost]:
    """All hosts that were heard of, by their ids. Raises redis errors. An entry that cannot be read is passed over."""
    found = []
    for key in client.scan_iter(match=names.HOSTS_PATTERN, count=1000):
        text = cast("str | None", client.get(key))
        try:
            entry = HostEntry.model_validate_json(text or "")
        except ValidationError:
            continue
        found.append(KnownHost(entry, alive=bool(client.exists(names.alive_key(entry.host_id)))))
    return sorted(found, key=lambda host: host.entry.host_id)


def entry_of(client: redis.Redis, host_id: str) -> HostEntry | None:
    """Return what a host last published; None if nothing was heard of it, or nothing that can be read. Raises redis errors."""
    text = cast("str | None", client.get(names.host_key(host_id)))
    try:
        return HostEntry.model_validate_json(text or "")
    except ValidationError:
        return None


def places(hosts: list[KnownHost]) -> list[Place]:
    return [Place(host, guest) for host in hosts for guest in host.entry.guests]
