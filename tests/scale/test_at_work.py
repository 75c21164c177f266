"""What Redis is asked again and again while guests are read, which takes hours, does not grow with the whole capture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from freezeframe import bus, presence
from freezeframe.contract import names
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.words import RunState, Step
from freezeframe.settings import BusSettings
from ops.fleet.counts import Counts
from ops.fleet.fleet import Fleet
from ops.fleet.made_up import MadeUp
from ops.fleet.steps import MadeUpSteps
from orchestrator import again
from tests.scale.capture import CAPTURE, ManyGuests
from tests.unit.orders import prepare_order
from tests.unit.told_run import tell_run

HOSTS = 300


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with bus.connect(bus_settings) as made:
        yield made


@pytest.fixture
def host(bus_settings: BusSettings, tmp_path: Path) -> Iterator[Fleet]:
    """One host, which has prepared its guests and told so."""
    made = Fleet(bus_settings, tmp_path, MadeUpSteps(MadeUp(1), {}))
    [host_id] = made.hosts
    order: PrepareOrder = prepare_order(capture_id=CAPTURE, host_id=host_id)
    journal = made.hosts[host_id].journal.of(CAPTURE)
    journal.record_begun(Step.PREPARE, "", order.model_dump_json())
    journal.store_result(
        Step.PREPARE, "", MadeUpSteps(MadeUp(1), {}).prepare(made.hosts[host_id], order).model_dump_json()
    )
    yield made
    made.close()


def test_which_worker_takes_orders_is_one_question_for_a_hundred_hosts(client: redis.Redis) -> None:
    many = ManyGuests(HOSTS, 1)
    for one in many.inventory:
        presence.publish(client, one.entry)
    before = Counts.of(client)
    assert len(again.instances(client, Step.TRANSFER, many.host_ids)) == HOSTS
    assert (Counts.of(client) - before).commands == {"mget": HOSTS // 100}


def test_the_inventory_is_read_without_a_search_through_all_keys(client: redis.Redis) -> None:
    """Redis has a key for each result of a day, and a plan asks twice. A search is made once in ten minutes, whoever asks."""
    many = ManyGuests(HOSTS, 1)
    for one in many.inventory:
        presence.publish(client, one.entry)
    client.mset({f"celery-task-meta-{number}": "{}" for number in range(20_000)})
    assert len(presence.known_hosts(client)) == HOSTS
    searches = Counts.of(client).commands["scan"]
    assert searches > 1
    before = Counts.of(client)
    assert len(presence.known_hosts(client)) == HOSTS
    assert presence.unread_hosts(client) == []
    assert (Counts.of(client) - before).commands == {"smembers": 2, "exists": 2, "mget": 2 * HOSTS // 100}
    client.delete(names.HOSTS_SEARCHED_KEY)
    assert len(presence.known_hosts(client)) == HOSTS
    assert client.ttl(names.HOSTS_SEARCHED_KEY) in range(500, presence.SEARCHED_S + 1)


def test_hosts_that_are_in_no_set_are_found_and_those_that_are_gone_are_forgotten(client: redis.Redis) -> None:
    """Hosts of a version before, and a set that Redis has lost; entries expire, the ids in a set do not."""
    *others, old, gone = ManyGuests(5, 1).inventory
    for one in (*others, old, gone):
        presence.publish(client, one.entry)
    client.srem(names.HOST_IDS_KEY, old.entry.host_id)
    client.delete(names.host_key(gone.entry.host_id))
    there = sorted(one.entry.host_id for one in (*others, old))
    for _ in range(2):
        assert [one.entry.host_id for one in presence.known_hosts(client)] == there
    assert client.smembers(names.HOST_IDS_KEY) == set(there)
    assert presence.forget(client, old.entry.host_id)
    assert client.smembers(names.HOST_IDS_KEY) == set(there) - {old.entry.host_id}


@pytest.mark.parametrize("state", [RunState.PREPARING, RunState.HOLDING, RunState.TRANSFERRING, RunState.RELEASING])
def test_no_order_is_made_while_each_host_has_the_worker_that_it_was_sent_to(state: RunState) -> None:
    run = ManyGuests(3, 1).run(state)
    now = dict.fromkeys(again.hosts_of(run), "first")
    assert set(now) == set(run.sent_to)
    assert again.changed(run, now) == {}
    assert again.changed(run, now | {"host-0001": "second"}) == {"host-0001": "second"}


def test_a_host_asks_for_its_own_results_however_many_there_are(client: redis.Redis, host: Fleet) -> None:
    """Each host asks every five seconds. The names of a thousand hosts' results would be a megabyte and more."""
    tell_run(client, CAPTURE, "transferring")
    client.hset(names.results_key(CAPTURE), mapping={f"transfer/host-{one}/x.vda": "{}" for one in range(10_000)})
    host.recover()
    assert client.hlen(names.results_key(CAPTURE)) == 10_001
    before = Counts.of(client)
    host.recover()
    counts = Counts.of(client) - before
    assert counts.commands == {"hgetall": 1, "hmget": 1, "evalsha": 1, "hexists": 1}
    # most of it is what counting takes: a line for each command that the server has ever had; the names would be 250 kB
    assert counts.bytes_out < 50_000
