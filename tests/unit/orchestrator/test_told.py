"""Results are read from Redis and parsed once, and never older than the record beside them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.result import ReleaseResult, TransferResult
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings
from orchestrator import answers as answers_module
from orchestrator.answers import Answers
from orchestrator.told import AT_ONCE, NAMES_S, Record, Told

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
KEY = names.results_key(CAPTURE)
GUEST = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with contextlib.closing(bus.connect(bus_settings)) as found:
        found.hset(names.run_key(CAPTURE), mapping={"record": "R", "version": "3", "written": "w"})
        yield found


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(client: redis.Redis, clock: Clock) -> Told:
    return Told(client, clock)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fields that were parsed."""
    done: list[str] = []
    real = answers_module.parsed

    def noting(capture_id: str, field: str, text: str) -> Any:
        done.append(field)
        return real(capture_id, field, text)

    monkeypatch.setattr("orchestrator.told.parsed", noting)
    return done


def field_of(number: int) -> str:
    return names.result_field(Step.TRANSFER, f"host-{number}", f"{GUEST}.vda")


def answer(client: redis.Redis, *numbers: int) -> None:
    for number in numbers:
        result = TransferResult(capture_id=CAPTURE, host_id=f"host-{number}", guest_uuid=GUEST, target="vda")
        client.hset(KEY, field_of(number), result.model_dump_json())


def hosts(answers: Answers) -> list[str]:
    return [one.host_id for one in answers.transferred]


def test_each_result_is_parsed_once(client: redis.Redis, told: Told, parsed: list[str]) -> None:
    answer(client, *range(3))
    assert hosts(told.with_record(CAPTURE)[1]) == ["host-0", "host-1", "host-2"]
    answer(client, 3)
    record, answers = told.with_record(CAPTURE)
    assert record == Record("3", "w", "R")
    assert hosts(answers) == ["host-0", "host-1", "host-2", "host-3"]
    assert answers.fields == {field_of(number) for number in range(4)}
    assert sorted(parsed) == [field_of(number) for number in range(4)]


def test_a_look_at_results_that_are_known_reads_none_of_them(client: redis.Redis, told: Told) -> None:
    answer(client, *range(3 * AT_ONCE))
    first = told.with_record(CAPTURE)[1]
    assert len(first.transferred) == 3 * AT_ONCE
    before = client.info("commandstats")
    sent = client.info("stats")["total_net_output_bytes"]
    assert told.with_record(CAPTURE)[1] is first
    assert client.info("stats")["total_net_output_bytes"] - sent < 12_000  # most of it are the answers to INFO
    after = client.info("commandstats")
    read = {name for name, one in after.items() if one["calls"] > before.get(name, {"calls": 0})["calls"]}
    assert read <= {"cmdstat_evalsha", "cmdstat_hmget", "cmdstat_hlen", "cmdstat_info"}


def test_results_that_redis_has_lost_are_not_known_any_more(client: redis.Redis, told: Told) -> None:
    """Hosts tell them again; until then the orchestrator must not act on what nobody can read after its restart."""
    answer(client, *range(3))
    assert len(told.with_record(CAPTURE)[1].transferred) == 3
    client.hdel(KEY, field_of(1))
    assert hosts(told.with_record(CAPTURE)[1]) == ["host-0", "host-2"]
    client.delete(KEY)
    assert told.with_record(CAPTURE)[1] == Answers()


def test_as_many_results_as_were_lost_are_found_after_a_while(client: redis.Redis, told: Told, clock: Clock) -> None:
    """A failover loses the last writes; others come at the same time."""
    answer(client, 0, 1)
    told.with_record(CAPTURE)
    client.hdel(KEY, field_of(1))
    answer(client, 2)
    clock.now += NAMES_S
    assert hosts(told.with_record(CAPTURE)[1]) == ["host-0", "host-2"]


def test_a_run_is_forgotten_with_its_results(client: redis.Redis, told: Told, parsed: list[str]) -> None:
    answer(client, 0)
    told.with_record(CAPTURE)
    told.forget(CAPTURE)
    told.forget(CAPTURE)
    told.with_record(CAPTURE)
    assert parsed == [field_of(0)] * 2


def test_no_record_is_newer_than_the_results_beside_it(
    client: redis.Redis, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results come while others are read, and another look changes the run because of them: a disk whose answer had not been
    read would count as one that nobody has told of.
    """
    answer(client, 0)
    real = told._read
    turns = iter([1, 2])

    def read(capture_id: str, known: Any) -> Answers:
        found = real(capture_id, known)
        if (number := next(turns, None)) is not None:
            answer(client, number)
            client.hset(names.run_key(CAPTURE), "version", str(10 + number))
        return found

    monkeypatch.setattr(told, "_read", read)
    record, answers = told.with_record(CAPTURE)
    assert record == Record("12", "w", "R")
    assert hosts(answers) == ["host-0", "host-1", "host-2"]


def test_results_that_keep_coming_keep_no_look_waiting(
    client: redis.Redis, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand hosts answer more often than names are read. The record stays as it is, so what was read goes with it."""
    answer(client, 0)
    real, more = client.hkeys, iter(range(1, 100))

    def hkeys(key: str) -> Any:
        found = real(key)
        answer(client, next(more))
        return found

    monkeypatch.setattr(client, "hkeys", hkeys)
    assert hosts(told.with_record(CAPTURE)[1]) == ["host-0"]
    assert hosts(told.with_record(CAPTURE)[1]) == ["host-0", "host-1"]
    assert next(more) == 3


def test_results_of_which_only_the_name_was_seen_are_read_again(
    client: redis.Redis, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(client, 0, 1)
    real = client.hkeys

    def hkeys(key: str) -> Any:
        found = real(key)
        client.hdel(KEY, field_of(1))
        return found

    monkeypatch.setattr(client, "hkeys", hkeys)
    assert hosts(told.with_record(CAPTURE)[1]) == ["host-0"]


def test_what_is_of_no_order_is_known_too(client: redis.Redis, told: Told, parsed: list[str]) -> None:
    """Else each look would read it again."""
    client.hset(KEY, mapping={"copy/host-0/part": "{}", "transfer/host-0/no": "{}", "odd": "{}"})
    for _ in range(2):
        answers = told.with_record(CAPTURE)[1]
        assert answers == Answers()
        assert answers.fields == {"copy/host-0/part", "transfer/host-0/no", "odd"}
    assert len(parsed) == 3


def test_many_threads_read_the_same(client: redis.Redis, told: Told) -> None:
    wrong: list[object] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            record, answers = told.with_record(CAPTURE)
            if record is None or len(answers.transferred) < int(record.version) - 3:
                wrong.append((record, len(answers.transferred)))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):  # a result first, then the record that counts it
        answer(client, number)
        client.hset(names.run_key(CAPTURE), "version", str(3 + number + 1))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    released = ReleaseResult(capture_id=CAPTURE, host_id="host-0")
    client.hset(KEY, names.result_field(Step.RELEASE, "host-0"), released.model_dump_json())
    assert told.with_record(CAPTURE)[1].released == (released,)


def test_a_record_is_read_once_for_as_long_as_it_is_the_same(client: redis.Redis, told: Told) -> None:
    """That of a thousand hosts is 6 MB, and each run is looked at every 2 s."""
    client.hset(names.run_key(CAPTURE), "record", "R" * 1_000_000)
    first = told.record(CAPTURE)
    sent = client.info("stats")["total_net_output_bytes"]
    for _ in range(5):
        assert told.record(CAPTURE) is first
        assert told.with_record(CAPTURE)[0] is first
    assert client.info("stats")["total_net_output_bytes"] - sent < 12_000  # most of it is the answer to INFO


def test_another_record_of_the_same_version_is_read(client: redis.Redis, told: Told) -> None:
    """A failover has lost the last change, and another process has made one since. With the lost one in mind this process
    would change what it has not seen.
    """
    assert told.record(CAPTURE) == Record("3", "w", "R")
    client.hset(names.run_key(CAPTURE), mapping={"record": "S", "written": "x"})
    assert told.record(CAPTURE) == Record("3", "x", "S")
    client.hset(names.run_key(CAPTURE), mapping={"record": "T", "version": "4"})
    assert told.record(CAPTURE) == Record("4", "x", "T")
    client.delete(names.run_key(CAPTURE))
    assert told.record(CAPTURE) is None


def test_a_record_without_a_word_is_read_each_time(client: redis.Redis, told: Told) -> None:
    """An orchestrator of before has written it: after a failover nothing tells it from another of its version."""
    client.hdel(names.run_key(CAPTURE), "written")
    for text in ("S", "T"):
        client.hset(names.run_key(CAPTURE), "record", text)
        assert told.record(CAPTURE) == Record("3", "", text)
