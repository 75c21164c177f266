"""The work for one more guest is the same whether a capture has ten others or thousands."""

from __future__ import annotations

import contextlib
from functools import cache

import pytest

from freezeframe import bus, presence
from freezeframe.contract.words import RunState
from freezeframe.settings import BusSettings
from orchestrator.path import orders_of
from tests.scale.capture import ManyGuests
from tests.scale.cases import CASES
from tests.scale.counting import Text, counted, steps_of
from tests.scale.deciding import LATER

#: Of each shape three sizes, each ten times the last: many hosts shows what grows with hosts, one large host what grows
#: with guests.
SHAPES = {
    "hosts of ten guests": [(1, 10), (10, 10), (100, 10)],
    "hosts of one guest": [(10, 1), (100, 1), (1000, 1)],
    "one host": [(1, 10), (1, 100), (1, 1000)],
}
#: By how much the work for one more guest may differ.
MOST_GROWTH = 1.2


@cache
def many(hosts: int, guests_a_host: int) -> ManyGuests:
    return ManyGuests(hosts, guests_a_host)


@pytest.fixture(autouse=True)
def sound_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.unsealable.check_index", lambda *_: None)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_the_work_for_one_more_guest_stays_the_same(case: str, shape: str) -> None:
    captures = [many(*size) for size in SHAPES[shape]]
    steps = [steps_of(CASES[case](one)) for one in captures]
    guests = [one.guests for one in captures]
    one_more = [(steps[n + 1] - steps[n]) / (guests[n + 1] - guests[n]) for n in range(2)]
    assert one_more[1] <= MOST_GROWTH * one_more[0], f"{case}: {one_more} steps for one more guest"


def test_the_inventory_of_one_more_host_is_read_in_the_same_steps(bus_settings: BusSettings) -> None:
    steps = []
    with contextlib.closing(bus.connect(bus_settings)) as client:
        presence.known_hosts(client)  # it searches all keys, once in ten minutes
        for hosts in (10, 100, 1000):
            for host in many(hosts, 1).inventory:
                presence.publish(client, host.entry)
            steps.append(steps_of(lambda: presence.places(presence.known_hosts(client))))
    one_more = (steps[1] - steps[0]) / 90, (steps[2] - steps[1]) / 900
    assert one_more[1] <= MOST_GROWTH * one_more[0], (one_more, steps)


@pytest.mark.parametrize("state", [RunState.PREPARING, RunState.HOLDING, RunState.TRANSFERRING, RunState.RELEASING])
def test_the_orders_of_a_capture_are_as_long_as_it_has_guests(state: RunState) -> None:
    def length(one: ManyGuests) -> int:
        orders = orders_of(one.run(state, sealed=True), one.prepared, LATER)
        return sum(len(order.model_dump_json()) for order in orders)

    small, large = many(10, 10), many(100, 10)
    assert length(large) <= MOST_GROWTH * 10 * length(small)


def test_a_search_through_a_tuple_is_seen() -> None:
    ids = counted(tuple(f"id-{number}" for number in range(1000)))
    assert steps_of(lambda: Text("none") in ids) > 1000
    names = frozenset(ids)
    assert steps_of(lambda: Text("none") in names) < 20


def test_a_loop_without_a_call_is_seen() -> None:
    numbers = list(range(1000))
    assert steps_of(lambda: [one for one in numbers if one]) > 1000
