"""Presence: hosts publish what they are and have; a host that stops doing so is down, and is not forgotten for it."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, cast

import redis
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry

#: Seconds of silence after which a host counts as down: several inventory intervals, so that one lost is no alarm.
ALIVE_S = 10
#: Seconds after which a silent host is forgotten altogether.
REMEMBERED_S = 30 * 86400
#: Seconds between two searches for hosts that are in no set.
SEARCHED_S = 600
#: Hosts that are read with one command: an entry has some kilobytes.
_AT_ONCE = 100
#: What to do about a host whose entry cannot be read.
UNREAD_ADVICE = (
    "Bring freezeframe on the control node, and on the machine of this command, to the version of the newest host "
    "(`freezeframe version`)."
)


@dataclass(frozen=True)
class KnownHost:
    """A host as it last published itself."""

    entry: HostEntry
    alive: bool


@dataclass(frozen=True)
class UnreadHost:
    """A host that is there, and whose guests are not known: its entry is of another version, or damaged."""

    host_id: str
    why: str
    alive: bool

    def __str__(self) -> str:
        return f"Host {self.host_id} {'is up' if self.alive else 'is down'}, and its entry in the inventory {self.why}."


@dataclass(frozen=True)
class Place:
    """A guest where it was last seen."""

    host: KnownHost
    guest: GuestEntry


def publish(client: redis.Redis, entry: HostEntry) -> None:
    """Put a host's entry into the inventory. Raises redis errors."""
    pipeline = client.pipeline(transaction=False)
    pipeline.set(names.host_key(entry.host_id), entry.model_dump_json(), ex=REMEMBERED_S)
    pipeline.set(names.alive_key(entry.host_id), "1", ex=ALIVE_S)
    pipeline.sadd(names.HOST_IDS_KEY, entry.host_id)
    pipeline.execute()


class Asked(NamedTuple):
    """What a host asks Redis before it publishes itself, with one exchange."""

    clock_ahead_s: float  # by how many seconds this machine's clock is ahead of Redis's
    values: tuple[str | None, ...]  # of the keys that were asked for


def ask(client: redis.Redis, *keys: str) -> Asked:
    """Return Redis's answers. Raises redis errors; a key that is no text is one."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    for key in keys:
        pipeline.get(key)
    before = time.time()
    (seconds, micros), *values = pipeline.execute()
    return Asked((before + time.time()) / 2 - (seconds + micros / 1e6), tuple(values))


def clock_ahead_s(client: redis.Redis) -> float:
    """Return by how many seconds this machine's clock is ahead of Redis's. Raises redis errors."""
    return ask(client).clock_ahead_s


def forget(client: redis.Redis, host_id: str) -> bool:
    """Take a host out of the inventory, with what waits for it; False if there is none of that id. Raises redis errors.

    A host that is up publishes itself again.
    """
    kept = [f"{kind}.host.{host_id}" for kind in ("unacked", "unacked_index", "unacked_mutex")]
    pipeline = client.pipeline()
    pipeline.delete(names.host_key(host_id))
    pipeline.srem(names.HOST_IDS_KEY, host_id)
    pipeline.delete(names.alive_key(host_id), names.machine_key(host_id), *names.host_queues(host_id), *kept)
    return bool(pipeline.execute()[0])


def known_hosts(client: redis.Redis) -> list[KnownHost]:
    """Return the hosts that were heard of and can be read, by their ids. `unread_hosts` has the others. Raises redis errors."""
    found = []
    for _, text, alive in _entries(client):
        try:
            entry = _entry(text)
        except ValidationError:
            continue
        found.append(KnownHost(entry, alive))
    return found


def unread_hosts(client: redis.Redis) -> list[UnreadHost]:
    """Return the hosts whose entries this version cannot read, by their ids. Raises redis errors."""
    return [
        UnreadHost(host_id, why, alive)
        for host_id, text, alive in _entries(client)
        if (why := _unreadable(text)) is not None
    ]


def _entries(client: redis.Redis) -> Iterator[tuple[str, str, bool]]:
    """Yield each host's id, what it published last, and whether it is up, by ids."""
    ids = sorted(_ids(client))
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        keys = [names.host_key(one) for one in some] + [names.alive_key(one) for one in some]
        told = cast("list[str | None]", client.mget(keys))
        for host_id, text, alive in zip(some, told[: len(some)], told[len(some) :], strict=True):
            if text is not None:  # it was forgotten meanwhile
                yield host_id, text, alive is not None


def _ids(client: redis.Redis) -> set[str]:
    """Return the ids of all hosts. Raises redis errors.

    Redis has as many keys as there are results of a day: they are searched once in SEARCHED_S, whoever asks, for hosts of a
    version before, which put themselves into no set.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.smembers(names.HOST_IDS_KEY)
    pipeline.exists(names.HOSTS_SEARCHED_KEY)
    ids, searched = cast("tuple[set[str], int]", pipeline.execute())
    if searched:
        return ids
    there = {key.removeprefix(names.host_key("")) for key in client.scan_iter(match=names.HOSTS_PATTERN, count=1000)}
    if gone := ids - there:  # they have not been heard of for so long that their entries have expired
        client.srem(names.HOST_IDS_KEY, *gone)
    if there:
        client.sadd(names.HOST_IDS_KEY, *there)
    client.set(names.HOSTS_SEARCHED_KEY, "1", ex=SEARCHED_S)
    return there


def _entry(text: str) -> HostEntry:
    """Return what a host has published. Raises ValidationError.

    One of the version before says nothing of the contract.
    """
    entry = HostEntry.model_validate_json(text)
    return entry if "contract" in entry.model_fields_set else entry.model_copy(update={"contract": 1})


def _unreadable(text: str) -> str | None:
    """Return why an entry cannot be read; None if it can. Pure."""
    try:
        HostEntry.model_validate_json(text)
    except ValidationError as error:
        version, program = _versions(text)
        if isinstance(version, int) and version > HostEntry.model_fields["v"].default:
            by = f", as freezeframe {program} writes it," if isinstance(program, str) else ""
            return f"is of version {version}{by} and newer than this freezeframe"
        return f"cannot be read ({error.error_count()} faults)"
    return None


def _versions(text: str) -> tuple[object, object]:
    """Return the version of an entry and that of the program, as far as they can be told."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None, None
    return (document.get("v"), document.get("freezeframe_version")) if isinstance(document, dict) else (None, None)


def entries_of(client: redis.Redis, host_ids: Collection[str]) -> dict[str, HostEntry]:
    """Return what these hosts last published, as far as anything was heard that can be read. Raises redis errors."""
    found = {}
    ids = list(host_ids)
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        texts = cast("list[str | None]", client.mget([names.host_key(one) for one in some]))
        for host_id, text in zip(some, texts, strict=True):
            with suppress(ValidationError):
                found[host_id] = _entry(text or "")
    return found


def places(hosts: Iterable[KnownHost]) -> list[Place]:
    """Return every guest of these hosts, with its host."""
    return [Place(host, guest) for host in hosts for guest in host.entry.guests]
