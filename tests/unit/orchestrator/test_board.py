"""The board of admission and the guests that runs want, in Redis: what is read, and what two that ask at once find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.event import Queued
from freezeframe.settings import BusSettings
from orchestrator import admission, board, wanted_guests
from orchestrator.admission import Rivals, Wanted
from orchestrator.board import ANEW_S, Boards
from orchestrator.line import Entry, Limits

OLD, YOUNG, THIRD = (f"01KAAAAAAAAAAAAAAAAAAAAA{number:02d}" for number in range(3))
MANY = [f"01KBAAAAAAAAAAAAAAAAAA{number:04d}" for number in range(1500)]
NO_LIMITS = Limits(in_all=10_000, on_a_host=10_000)
ENTRY = Entry(admitted=True, hosts=("host-a",))


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with closing(bus.connect(bus_settings)) as made:
        made.sadd(names.ACTIVE_RUNS_KEY, OLD, YOUNG, THIRD, *MANY)
        yield made


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def wants(*numbers: int, patient: bool = True) -> Wanted:
    return Wanted(("host-a",), {uuid(one): f"g{one}" for one in numbers}, waits_for_guests=patient)


def put(client: redis.Redis, capture_id: str, entry: Entry = ENTRY) -> None:
    assert board.put(client, Boards().read(client).version, capture_id, entry)


# What is read.


def test_a_board_that_nobody_has_written_is_empty(client: redis.Redis) -> None:
    assert Boards().read(client).entries == {}


def test_a_process_reads_what_others_put_and_change_and_take_away(client: redis.Redis) -> None:
    boards = Boards()
    put(client, OLD)
    put(client, YOUNG)
    assert boards.read(client).entries == {OLD: ENTRY, YOUNG: ENTRY}
    other = ENTRY.model_copy(update={"hosts": ("host-b",)})
    put(client, OLD, other)
    board.remove(client, YOUNG)
    put(client, THIRD)
    assert boards.read(client).entries == {OLD: other, THIRD: ENTRY}
    board.remove(client, OLD)
    assert boards.read(client).entries == {THIRD: ENTRY}


def test_an_entry_of_a_board_that_has_changed_is_not_put(client: redis.Redis) -> None:
    version = Boards().read(client).version
    put(client, OLD)
    assert not board.put(client, version, YOUNG, ENTRY)
    assert not client.hexists(names.ADMISSION_KEY, YOUNG)


def test_a_run_that_has_ended_puts_no_entry(client: redis.Redis) -> None:
    """It could be taken away by nobody."""
    client.srem(names.ACTIVE_RUNS_KEY, OLD)
    assert board.put(client, "0", OLD, ENTRY)
    assert Boards().read(client).entries == {}
    assert admission.ask(client, Boards(), NO_LIMITS, OLD, wants(1)) is None


@pytest.mark.parametrize("number", [999, 1000, 1001, 1500])
def test_many_entries_are_read_in_parts(client: redis.Redis, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boards = Boards()
    before = boards.read(client)
    text = ENTRY.model_dump_json()
    pipeline = client.pipeline()
    for version, one in enumerate(MANY[:number], 1):
        pipeline.hset(names.ADMISSION_KEY, mapping={one: text, "version": version})
        pipeline.zadd(names.ADMISSION_CHANGES_KEY, {one: version})
    pipeline.execute()
    assert before.entries == {}
    replies: list[int] = []
    real = redis.commands.core.Script.__call__

    def call(script: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(script, *args, **kwargs)
        replies.append(sum(len(one) for one in found[3:]))
        return found

    monkeypatch.setattr(board, "MOST_BYTES", 10_000)
    monkeypatch.setattr(redis.commands.core.Script, "__call__", call)
    assert set(boards.read(client).entries) == set(MANY[:number])
    assert max(replies) < 20_000
    assert sum(replies) < number * (len(text) + 40)
    replies.clear()
    assert len(boards.read(client).entries) == number
    assert replies == [0]


def test_a_redis_that_is_emptied_or_set_back_is_read_anew(client: redis.Redis) -> None:
    boards = Boards()
    for one in (OLD, YOUNG, THIRD):
        put(client, one)
    boards.read(client)
    boards.followed[OLD] = "1"
    client.delete(names.ADMISSION_KEY, names.ADMISSION_CHANGES_KEY)
    put(client, MANY[0])
    assert boards.read(client).entries == {MANY[0]: ENTRY}
    assert boards.followed == {}  # their entries are put again


def test_what_a_failover_has_lost_unseen_is_read_within_a_minute(client: redis.Redis) -> None:
    now = [100.0]
    boards = Boards(lambda: now[0])
    put(client, OLD)
    boards.read(client)
    other = ENTRY.model_copy(update={"hosts": ("host-b",)})
    client.hset(names.ADMISSION_KEY, OLD, other.model_dump_json())
    assert boards.read(client).entries == {OLD: ENTRY}
    now[0] += ANEW_S
    assert boards.read(client).entries == {OLD: other}


def test_an_entry_that_a_failover_has_lost_is_put_again_at_the_next_look(client: redis.Redis) -> None:
    """Also where another orchestrator has brought the version on before this one reads."""
    boards = Boards()
    put(client, OLD)
    boards.read(client)
    boards.followed[OLD] = "1"
    client.hdel(names.ADMISSION_KEY, OLD)
    client.zrem(names.ADMISSION_CHANGES_KEY, OLD)
    put(client, YOUNG)
    assert boards.read(client).entries == {YOUNG: ENTRY}
    assert boards.followed == {}


def test_entries_of_an_orchestrator_that_tells_of_no_changes_are_read(client: redis.Redis) -> None:
    boards = Boards()
    put(client, OLD)
    boards.read(client)
    old = '{"v":1,"admitted":true,"hosts":["host-b"],"guests":{"00000000-0000-4000-8000-000000000001":"g1"}}'
    client.hset(names.ADMISSION_KEY, mapping=dict.fromkeys(MANY[:50], old))
    entries = boards.read(client).entries
    assert len(entries) == 51
    assert {(one.admitted, one.hosts) for one in entries.values()} == {(True, ("host-a",)), (True, ("host-b",))}


def test_a_change_of_an_entry_that_is_gone_is_passed_over(client: redis.Redis) -> None:
    client.zadd(names.ADMISSION_CHANGES_KEY, {YOUNG: 1})
    put(client, OLD)
    assert Boards().read(client).entries == {OLD: ENTRY}


# The guests that runs want.


def test_the_later_one_finds_the_earlier_one(client: redis.Redis) -> None:
    assert wanted_guests.want(client, OLD, [uuid(1), uuid(2)]) == {}
    assert wanted_guests.want(client, YOUNG, [uuid(2), uuid(3)]) == {uuid(2): (OLD,)}
    assert wanted_guests.want(client, THIRD, [uuid(2)]) == {uuid(2): (OLD, YOUNG)}
    assert wanted_guests.want(client, OLD, [uuid(1), uuid(2)]) == {uuid(2): (YOUNG, THIRD)}


def test_a_run_wants_just_what_it_says_last(client: redis.Redis) -> None:
    guests = [uuid(one) for one in range(1200)]
    wanted_guests.want(client, OLD, guests)
    wanted_guests.want(client, OLD, guests[1100:])
    found = wanted_guests.want(client, YOUNG, guests)
    assert found == dict.fromkeys(guests[1100:], (OLD,))
    wanted_guests.want(client, YOUNG, [])
    assert client.hlen(names.WANTED_GUESTS_KEY) == 100


def test_of_a_run_that_leaves_nothing_is_left(client: redis.Redis) -> None:
    guests = [uuid(one) for one in range(1200)]
    wanted_guests.want(client, OLD, guests)
    wanted_guests.want(client, YOUNG, guests[:1])
    wanted_guests.leave(client, OLD)
    assert client.hgetall(names.WANTED_GUESTS_KEY) == {guests[0]: YOUNG}
    assert not client.exists(names.wanted_key(OLD))
    wanted_guests.leave(client, YOUNG)
    assert not client.exists(names.WANTED_GUESTS_KEY, names.wanted_key(YOUNG))


def test_a_run_that_has_ended_and_did_not_leave_wants_nothing(client: redis.Redis) -> None:
    wanted_guests.want(client, OLD, [uuid(1)])
    client.srem(names.ACTIVE_RUNS_KEY, OLD)
    assert wanted_guests.want(client, YOUNG, [uuid(1)]) == {}
    assert client.hget(names.WANTED_GUESTS_KEY, uuid(1)) == YOUNG
    assert client.ttl(names.wanted_key(OLD)) > 0


# Two at once. One of them asks, or has its entry follow it, in the middle of the other's doing so.


PLACES = ["before it tells its guests", "after it has told its guests", "before its entry is put"]


class Meanwhile:
    """Do something once, at a place in what is done with the board."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: str, what: Callable[[], object]) -> None:
        self._left = [what]
        real_want, real_put = wanted_guests.want, board.put

        def want(*args: Any) -> Any:
            if place == PLACES[0]:
                self._do()
            found = real_want(*args)
            if place == PLACES[1]:
                self._do()
            return found

        def put(*args: Any) -> bool:
            if place == PLACES[2]:
                self._do()
            return real_put(*args)

        monkeypatch.setattr(wanted_guests, "want", want)
        monkeypatch.setattr(board, "put", put)

    def _do(self) -> None:
        if self._left:
            self._left.pop()()


def ask(client: redis.Redis, capture_id: str, wanted: Wanted) -> Queued | Rivals | None:
    return admission.ask(client, Boards(), NO_LIMITS, capture_id, wanted)


@pytest.mark.parametrize("inner_patient", [True, False])
@pytest.mark.parametrize("outer_patient", [True, False])
@pytest.mark.parametrize(("outer", "inner"), [(OLD, YOUNG), (YOUNG, OLD)])
@pytest.mark.parametrize("place", PLACES)
def test_of_two_that_ask_at_once_for_a_guest_one_gets_it(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    outer: str,
    inner: str,
    *,
    outer_patient: bool,
    inner_patient: bool,
) -> None:
    for one in (outer, inner):
        client.hset(names.run_key(one), "state", "asked")
    told: list[object] = []
    Meanwhile(monkeypatch, place, lambda: told.append(ask(client, inner, wants(1, 2, patient=inner_patient))))
    told.append(ask(client, outer, wants(2, 3, patient=outer_patient)))
    assert len(told) == 2
    assert [answer is None for answer in told].count(True) == 1
    for answer, patient in zip(told, (inner_patient, outer_patient), strict=True):
        assert answer is None or isinstance(answer, Queued if patient else Rivals)


def follow(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, capture_id: str, wanted: Wanted) -> None:
    """Have the entry of a run at work say that it has these guests."""

    class AtWork:
        state = type("State", (), {"ended": False})
        plan = True

        def __init__(self) -> None:
            self.capture_id = capture_id

    with monkeypatch.context() as patch:
        patch.setattr(admission, "still_wanted", lambda *_: wanted)
        admission.follow(client, Boards(), AtWork(), "1", ())  # type: ignore[arg-type]


@pytest.mark.parametrize(("wanted", "free"), [((1,), True), ((2,), False), ((1, 2), False)])
@pytest.mark.parametrize("outer", ["asks", "follows"])
@pytest.mark.parametrize("place", PLACES)
def test_one_that_asks_while_another_lets_a_guest_go_waits_for_what_that_still_has(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    outer: str,
    wanted: tuple[int, ...],
    *,
    free: bool,
) -> None:
    """OLD has guests 1 and 2, and lets 1 go."""
    assert ask(client, OLD, wants(1, 2)) is None
    acts: dict[str, Callable[[], object]] = {
        "asks": lambda: ask(client, YOUNG, wants(*wanted)),
        "follows": lambda: follow(client, monkeypatch, OLD, wants(2)),
    }
    [inner] = acts.keys() - {outer}
    Meanwhile(monkeypatch, place, acts[inner])
    acts[outer]()
    found = Boards().read(client).waiting(NO_LIMITS)
    assert (YOUNG in found) == (not free)
    if not free:
        assert "guest g2 is in capture" in found[YOUNG].why
        follow(client, monkeypatch, OLD, wants(3))
        assert Boards().read(client).waiting(NO_LIMITS) == {}


def test_one_that_is_followed_twice_is_put_once(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(client, OLD, wants(1, 2)) is None
    version = Boards().read(client).version
    follow(client, monkeypatch, OLD, wants(1, 2))
    assert Boards().read(client).version == version
    follow(client, monkeypatch, OLD, wants(1))
    entry = Boards().read(client).entries[OLD]
    assert (entry.admitted, entry.changes) == (True, 1)
