"""Own Redis: a host knows the Redis that its control worker has its orders from, and takes no other for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

import pytest

from freezeframe.contract import names
from workers import durable, inventory, own_redis
from workers.host import Host


def meet_redis(host: Host) -> None:
    """Have a host note its Redis, as its control worker does with each entry into the inventory."""
    own_redis.note(host, cast("str | None", host.redis.get(names.REDIS_ID_KEY)))


def test_a_host_that_publishes_itself_knows_its_redis(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not own_redis.is_own(host)
    stop = threading.Event()
    real = own_redis.note

    def note(noted: Host, found: str | None) -> None:
        real(noted, found)
        stop.set()

    monkeypatch.setattr(own_redis, "note", note)
    inventory.publish_forever(host, stop)
    assert own_redis.is_own(host)


def test_all_hosts_of_one_redis_know_it_by_one_id(host: Host, tmp_path: Path) -> None:
    host.redis.set(names.REDIS_ID_KEY, "1" * 32)
    meet_redis(host)
    assert host.redis.get(names.REDIS_ID_KEY) == "1" * 32
    assert own_redis.is_own(host)


def test_a_redis_that_was_emptied_is_known_again_when_the_worker_has_met_it(host: Host) -> None:
    meet_redis(host)
    before = host.redis.get(names.REDIS_ID_KEY)
    host.redis.flushall()
    assert not own_redis.is_own(host)
    meet_redis(host)
    assert own_redis.is_own(host)
    assert host.redis.get(names.REDIS_ID_KEY) == before


def test_a_full_disk_costs_the_host_no_entry(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: str) -> None:
        assert (path.name, len(data)) == (own_redis.FILE, 32)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "replace", full)
    meet_redis(host)
    assert not own_redis.is_own(host)
