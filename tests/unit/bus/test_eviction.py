"""A Redis that may evict keys is refused at the start, whoever is asked about it; one that keeps them is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from freezeframe import bus, eviction
from freezeframe.errors import EXIT_REFUSED
from freezeframe.settings import BusSettings

from .refusing import Refusing, refusing_redis

POLICIES = (
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
)

pytestmark = pytest.mark.case("S3")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Refusing]:
    with refusing_redis(tmp_path) as found:
        yield found


@pytest.fixture
def client(server: Refusing) -> Iterator[redis.Redis]:
    with bus.connect(BusSettings.model_validate({"redis_url": server.url})) as made:
        yield made


@pytest.mark.parametrize("forbidden", [(), ("config",), ("info",)])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_redis_that_evicts_is_refused(
    server: Refusing, client: redis.Redis, policy: str, forbidden: tuple[str, ...]
) -> None:
    server.admin.config_set("maxmemory-policy", policy)
    for command in forbidden:
        server.forbid(command)
    with pytest.raises(eviction.EvictingRedisError) as caught:
        eviction.check(client)
    assert f"`maxmemory-policy` of this Redis is {policy}" in caught.value.message
    assert "`redis-cli CONFIG SET maxmemory-policy noeviction`" in caught.value.hint
    assert caught.value.exit_code == EXIT_REFUSED


def test_the_advice_helps(server: Refusing, client: redis.Redis) -> None:
    server.admin.config_set("maxmemory-policy", "volatile-lru")
    with pytest.raises(eviction.EvictingRedisError) as caught:
        eviction.check(client)
    command = caught.value.hint.split("`redis-cli ")[1].split("`")[0]
    server.admin.execute_command(*command.split())  # type: ignore[no-untyped-call]
    eviction.check(client)


@pytest.mark.parametrize("forbidden", [(), ("config",), ("info",)])
def test_a_redis_that_keeps_all_is_taken(server: Refusing, client: redis.Redis, forbidden: tuple[str, ...]) -> None:
    for command in forbidden:
        server.forbid(command)
    with capture_logs() as lines:
        eviction.check(client)
    assert lines == []


def test_a_redis_that_tells_nobody_is_taken_with_a_warning(server: Refusing, client: redis.Redis) -> None:
    server.forbid("config")
    server.forbid("info")
    with capture_logs() as lines:
        eviction.check(client)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert "maxmemory-policy" in lines[0]["event"]


def test_a_wrong_password_is_left_to_what_comes_next(server: Refusing) -> None:
    with server.refusing("NOAUTH"), bus.connect(BusSettings.model_validate({"redis_url": server.url})) as client:
        eviction.check(client)


def test_a_redis_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch, client: redis.Redis) -> None:
    asked: list[int] = []

    def by_info(_: redis.Redis) -> str:
        asked.append(1)
        if len(asked) < 3:
            raise redis.ConnectionError("Connection refused.")
        return "allkeys-lru"

    monkeypatch.setattr(eviction, "_by_info", by_info)
    monkeypatch.setattr(eviction, "PAUSE_S", 0.0)
    with pytest.raises(eviction.EvictingRedisError):
        eviction.check(client)
    assert len(asked) == 3
