"""What the place of one run costs, from its request to its end, does not grow with the other runs and their guests.

Every orchestrator reads the board whenever it has changed, and every run changes it a few times: a board that was read as a
whole would cost the square of it, while the barriers of other captures wait for Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
import redis

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.settings import BusSettings
from ops.fleet.counts import Counts
from orchestrator import admission, board
from orchestrator.admission import Wanted
from orchestrator.board import Boards
from orchestrator.line import Entry, Limits, read_entry
from tests.scale.test_growth import MOST_GROWTH

HOSTS, GUESTS = 50, 500
#: What one guest of a run may cost Redis in all: it is told, taken away, and its id returned once.
MOST_BYTES_A_GUEST = 200
#: What a run may cost beside that: its entry, which two orchestrators read, and some 20 commands.
MOST_BYTES_A_RUN = 40_000
MOST_COMMANDS_A_RUN = 80


@dataclass(frozen=True)
class Cost:
    """Of one run, on the average."""

    commands: float
    bytes: float
    entries: float  # that were parsed


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with closing(bus.connect(bus_settings)) as made:
        yield made


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def read(text: str) -> Entry:
        found.append(text)
        return read_entry(text)

    monkeypatch.setattr(board, "read_entry", read)
    return found


def capture_id(number: int) -> str:
    return f"01KAAAAAAAAAAAAAAAAAAA{number:04}"


def wanted(number: int, *, in_common: bool) -> Wanted:
    """Guests of its own, on hosts that all runs have; and one guest that each run has, if they have one in common."""
    own = [f"00000000-0000-4000-8000-{number:06x}{guest:06x}" for guest in range(GUESTS)]
    own[0] = "00000000-0000-4000-8000-ffffffffffff" if in_common else own[0]
    return Wanted(tuple(f"host-{one:04}" for one in range(HOSTS)), dict.fromkeys(own, "x"), waits_for_guests=True)


def cost(client: redis.Redis, parsed: list[str], runs: int, limits: Limits, *, in_common: bool) -> Cost:
    """Have so many runs ask, and end one after another. Two orchestrators look at the line after each step."""
    client.flushdb()
    client.sadd(names.ACTIVE_RUNS_KEY, *(capture_id(number) for number in range(runs)))
    first, second = Boards(), Boards()
    first.read(client), second.read(client)
    parsed.clear()
    before = Counts.of(client)
    for number in range(runs):
        admission.ask(client, first, limits, capture_id(number), wanted(number, in_common=in_common))
        admission.place(client, second, limits, capture_id(number))
    for number in range(runs):
        if number:  # its turn has come, as the one before it has ended
            assert (
                admission.ask(client, second, limits, capture_id(number), wanted(number, in_common=in_common)) is None
            )
        client.srem(names.ACTIVE_RUNS_KEY, capture_id(number))
        admission.leave(client, first, capture_id(number))
        admission.place(client, second, limits, capture_id(number))
    counts = Counts.of(client) - before
    assert not client.exists(names.WANTED_GUESTS_KEY)
    assert first.read(client).entries == second.read(client).entries == {}
    return Cost(counts.commands.total() / runs, (counts.bytes_in + counts.bytes_out) / runs, len(parsed) / runs)


@pytest.mark.parametrize("limits", [Limits(10_000, 1000), Limits(1, 1), Limits(10_000, 1)])
def test_a_run_costs_the_same_beside_ten_others_and_beside_eighty(
    client: redis.Redis, parsed: list[str], limits: Limits
) -> None:
    small, large = (cost(client, parsed, runs, limits, in_common=False) for runs in (10, 80))
    assert large.commands <= MOST_GROWTH * small.commands
    assert large.bytes <= MOST_GROWTH * small.bytes
    assert large.entries <= MOST_GROWTH * small.entries
    assert large.commands <= MOST_COMMANDS_A_RUN
    assert large.bytes <= MOST_BYTES_A_RUN + GUESTS * MOST_BYTES_A_GUEST
    assert large.entries <= 8


def test_a_run_that_waits_for_a_guest_costs_a_line_for_each_that_waits_for_it_too(
    client: redis.Redis, parsed: list[str]
) -> None:
    """They are few: 40 of one guest, and an entry is some 4 kB."""
    found = cost(client, parsed, 40, Limits(10_000, 1000), in_common=True)
    assert found.bytes <= 2 * (MOST_BYTES_A_RUN + GUESTS * MOST_BYTES_A_GUEST)
    assert found.entries <= 8


def test_a_look_at_a_run_that_waits_is_one_script(client: redis.Redis) -> None:
    client.sadd(names.ACTIVE_RUNS_KEY, capture_id(0), capture_id(1))
    limits, boards = Limits(1, 1), Boards()
    for number in range(2):
        admission.ask(client, boards, limits, capture_id(number), wanted(number, in_common=False))
    boards.read(client)
    before = Counts.of(client)
    for _ in range(10):
        assert admission.place(client, boards, limits, capture_id(1)) is not None
    counts = Counts.of(client) - before
    assert counts.commands == {"evalsha": 10, "hget": 10, "hlen": 10, "zrangebyscore": 10}
