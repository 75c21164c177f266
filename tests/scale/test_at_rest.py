"""What hosts cost Redis while nothing is asked of them: a thousand of them do this every few seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from kombu.transport.redis import Transport

from freezeframe import bus
from freezeframe.settings import BusSettings
from freezeframe.transport import POLL_S
from ops.fleet.counts import Counts
from ops.fleet.fleet import Fleet
from ops.fleet.made_up import MadeUp
from ops.fleet.steps import MadeUpSteps

HOSTS = 4


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with bus.connect(bus_settings) as made:
        yield made


@pytest.fixture
def fleet(bus_settings: BusSettings, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(bus_settings, tmp_path, MadeUpSteps(MadeUp(HOSTS), {}))
    yield made
    made.close()


def a_host(client: redis.Redis, work: Callable[[], None]) -> dict[str, float]:
    """Return the commands of one host for something that all do, when they have done it before."""
    work()
    before = Counts.of(client)
    work()
    commands: Counter[str] = (Counts.of(client) - before).commands
    return {name: number / HOSTS for name, number in commands.items()}


def test_an_entry_into_the_inventory_is_six_commands(client: redis.Redis, fleet: Fleet) -> None:
    """Whose this host's id is, Redis's clock, which Redis this is, then the entry, that it lives, its id."""
    assert a_host(client, fleet.publish) == {"get": 2, "time": 1, "set": 2, "sadd": 1}


def test_a_look_of_recovery_without_captures_is_one_command(client: redis.Redis, fleet: Fleet) -> None:
    assert a_host(client, fleet.recover) == {"hgetall": 1}


def test_a_worker_asks_for_orders_every_two_seconds() -> None:
    """One second, as kombu has it, is nearly half of what a thousand idle hosts cost."""
    assert Transport.brpop_timeout == POLL_S == 2
