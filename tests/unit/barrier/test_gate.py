"""The barrier on a real Redis: all are released or none is, whoever comes twice, late or not at all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources

import pytest
import redis

from freezeframe import bus
from freezeframe.barrier import Gate, GateBrokenError, GateTakenError, GateUnreachableError, gate_client
from freezeframe.barrier.gate import KEEP_S
from freezeframe.contract import names
from freezeframe.settings import BusSettings

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
LONG_S = 20.0
SCRIPT = resources.files("freezeframe.barrier").joinpath("gate.lua").read_text(encoding="utf-8")


def gate(settings: BusSettings, member: str, members: list[str], *, epoch: int = 1, name: str = "held") -> Gate:
    return Gate(gate_client(settings), CAPTURE, epoch, name, member, len(members))


def soon(seconds: float = LONG_S) -> float:
    return time.monotonic() + seconds


def meets(one: Gate, seconds: float = LONG_S, visit: str = "") -> str:
    try:
        one.meet(soon(seconds), visit)
    except (GateBrokenError, GateTakenError, GateUnreachableError) as error:
        return type(error).__name__
    return "released"


def test_the_last_arrival_releases_all(bus_settings: BusSettings) -> None:
    members = [f"host-{number}" for number in range(20)]
    with ThreadPoolExecutor(len(members)) as pool:
        waiting = [pool.submit(meets, gate(bus_settings, member, members)) for member in members[:-1]]
        last = gate(bus_settings, members[-1], members)
        while last.look().so_far < len(waiting):
            time.sleep(0.01)
        assert not any(future.done() for future in waiting)
        last.meet(soon())
        assert {future.result() for future in waiting} == {"released"}
    reply = gate(bus_settings, members[0], members).look()
    assert reply.state == "released"
    arrived = [gate(bus_settings, member, members).look().own_us or 0 for member in members]
    assert 0 < min(arrived) <= max(arrived) == arrived[-1] <= reply.at_us
    assert (reply.arrived, reply.so_far) == (len(members), len(members))


def test_a_gate_says_how_many_had_arrived_when_it_was_decided(bus_settings: BusSettings) -> None:
    """The fact that a proof needs of it: an order of the script, not of its clock."""
    members = ["a", "b", "c"]
    assert gate(bus_settings, "a", members).look().arrived == 0
    assert meets(gate(bus_settings, "a", members), 0.1) == "GateUnreachableError"
    gate(bus_settings, "b", members).break_up("b gave up")
    assert meets(gate(bus_settings, "c", members)) == "GateBrokenError"
    assert gate(bus_settings, "a", members).look().arrived == 1


def test_arriving_twice_is_arriving_once(bus_settings: BusSettings) -> None:
    members = ["a", "b"]
    assert meets(gate(bus_settings, "a", members), 0.2) == "GateUnreachableError"
    assert meets(gate(bus_settings, "a", members), 0.2) == "GateUnreachableError"
    gate(bus_settings, "b", members).meet(soon())
    gate(bus_settings, "a", members).meet(soon())


def test_a_member_that_comes_in_another_visit_is_told_and_changes_nothing(bus_settings: BusSettings) -> None:
    members = ["a", "b"]
    one, other = (gate(bus_settings, member, members) for member in members)
    assert meets(one, 0.1, "first") == "GateUnreachableError"
    before = one.look()
    for visit in ("second", ""):
        assert meets(one, LONG_S, visit) == "GateTakenError"
    assert one.look() == before
    other.meet(soon(), "of its own")
    assert meets(one, LONG_S, "second") == "GateTakenError"
    assert meets(one, LONG_S, "first") == "released"  # the same visit, repeated
    assert one.look().own_us == before.own_us


def test_an_arrival_that_waits_for_nobody_is_a_visit_too(bus_settings: BusSettings) -> None:
    """A host that takes part without a guest arrives so; what is held after that is of no hold."""
    members = ["a", "b"]
    assert gate(bus_settings, "a", members).arrive() == "open"
    assert meets(gate(bus_settings, "a", members), LONG_S, "with guests") == "GateTakenError"
    gate(bus_settings, "b", members).meet(soon(), "of its own")
    assert meets(gate(bus_settings, "a", members), LONG_S, "with guests") == "GateTakenError"


def test_a_visit_is_of_its_gate_and_epoch(bus_settings: BusSettings) -> None:
    assert meets(gate(bus_settings, "a", ["a"], name="muster"), LONG_S, "one") == "released"
    assert meets(gate(bus_settings, "a", ["a"], name="held"), LONG_S, "another") == "released"
    assert meets(gate(bus_settings, "a", ["a"], epoch=2), LONG_S, "a third") == "released"


def test_a_broken_gate_wakes_all_and_is_never_released(bus_settings: BusSettings) -> None:
    members = ["a", "b", "c"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meets, gate(bus_settings, "a", members))
        time.sleep(0.1)
        gate(bus_settings, "b", members).break_up("b gave up")
        assert waiting.result() == "GateBrokenError"
    assert meets(gate(bus_settings, "b", members)) == "GateBrokenError"
    assert meets(gate(bus_settings, "c", members)) == "GateBrokenError"
    assert gate(bus_settings, "c", members).look().why == "b gave up"


def test_a_member_is_told_when_it_has_arrived_itself_and_how_many_have(bus_settings: BusSettings) -> None:
    members = ["a", "b"]
    assert meets(gate(bus_settings, "a", members), 0.05) == "GateUnreachableError"
    gate(bus_settings, "b", members).break_up("b gave up")
    one, other = (gate(bus_settings, member, members).look() for member in members)  # each as Redis has it for itself
    assert (one.so_far, other.so_far) == (1, 1)
    assert one.own_us is not None
    assert other.own_us is None


def test_an_answer_is_as_long_for_a_thousand_members_as_for_two(bus_settings: BusSettings) -> None:
    """Each would be told of every member otherwise, while guests of other captures are held."""
    members = [f"host-{number}" for number in range(1000)]
    with gate_client(bus_settings) as client:
        for member in members[:-1]:
            Gate(client, CAPTURE, 1, "held", member, len(members)).arrive()
        before = client.info("stats")["total_net_output_bytes"]
        assert Gate(client, CAPTURE, 1, "held", members[0], len(members)).look().so_far == 999
        assert client.info("stats")["total_net_output_bytes"] - before < 8000  # most of it is this answer to INFO


def test_a_released_gate_cannot_be_broken(bus_settings: BusSettings) -> None:
    members = ["a"]
    gate(bus_settings, "a", members).meet(soon())
    assert gate(bus_settings, "a", members).break_up("too late").state == "released"


def test_released_or_broken_is_one_answer_for_all(bus_settings: BusSettings) -> None:
    """One member breaks while the last arrives, many times: nobody is told another thing than the gate says."""
    members = ["a", "b"]
    for epoch in range(200):
        one, other = (gate(bus_settings, member, members, epoch=epoch) for member in members)
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(meets, one)
            pool.submit(other.break_up, "b gave up")
            arriving = pool.submit(meets, other)
            told = {waiting.result(), arriving.result()}
        assert told == {{"released": "released", "broken": "GateBrokenError"}[one.look().state]}


def test_another_epoch_is_another_gate(bus_settings: BusSettings) -> None:
    members = ["a", "b"]
    assert meets(gate(bus_settings, "a", members, epoch=1), 0.1) == "GateUnreachableError"
    assert meets(gate(bus_settings, "b", members, epoch=2), 0.1) == "GateUnreachableError"


def test_looking_changes_nothing(bus_settings: BusSettings) -> None:
    assert gate(bus_settings, "a", ["a"]).look().state == "open"
    assert gate(bus_settings, "a", ["a"]).look().so_far == 0


def test_a_gate_has_members() -> None:
    with pytest.raises(ValueError, match="a gate of 0 members"):
        Gate(redis.Redis(), CAPTURE, 1, "held", "a", 0)


def test_without_redis_a_member_waits_no_longer_than_its_deadline() -> None:
    nowhere = BusSettings.model_validate({"redis_url": "unix:///nowhere/at/all"})
    assert meets(gate(nowhere, "a", ["a"]), 0.2) == "GateUnreachableError"


def test_a_stalled_redis_costs_a_member_its_deadline_and_little_more(bus_settings: BusSettings, redis_url: str) -> None:
    """Redis answers nothing until the member has given up: if it waited for Redis, this would never end."""
    one = gate(bus_settings, "a", ["a"])
    with stopped(redis_url):
        assert meets(one, 0.5) == "GateUnreachableError"
    assert meets(one) == "released"


@contextmanager
def stopped(redis_url: str) -> Iterator[None]:
    """A Redis that takes connections and answers nobody."""
    with redis.Redis.from_url(redis_url) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_wake_up_that_was_lost_with_its_connection_is_told_again(
    bus_settings: BusSettings,
) -> None:
    """In one transaction: the connection goes, the gate is released, and its wake-up is gone before anybody comes back."""
    members = ["a", "b"]
    one = gate(bus_settings, "a", members)
    key = names.gate_key(CAPTURE, 1, "held")
    other = gate_client(bus_settings)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meets, one)
        sleeper = _sleeper(other)
        with other.pipeline(transaction=True) as together:
            together.client_kill_filter(_id=sleeper)
            together.eval(SCRIPT, 2, key, f"{key}:arrived", "arrive", "b", 2, 60, "", "")
            together.lpop(f"{key}:wake:a")
            assert together.execute()[2] == "released"
        assert waiting.result() == "released"


def _sleeper(client: redis.Redis) -> str:
    """The connection that is blocked in its list."""
    deadline = soon()
    while time.monotonic() < deadline:
        for one in client.client_list():
            if one["cmd"] == "blmove" and "b" in one["flags"]:
                return one["id"]
    raise AssertionError("nobody waits")


def test_a_member_that_arrives_again_keeps_the_time_of_its_first_arrival(bus_settings: BusSettings) -> None:
    members = ["a", "b"]
    assert meets(gate(bus_settings, "a", members), 0.05) == "GateUnreachableError"
    first = gate(bus_settings, "a", members).look().own_us
    assert meets(gate(bus_settings, "a", members), 0.05) == "GateUnreachableError"
    assert gate(bus_settings, "a", members).look().own_us == first
    assert first is not None


@pytest.mark.parametrize("verb", ["arrive", "release", "break"])
def test_no_key_of_a_gate_outlives_its_time(bus_settings: BusSettings, verb: str) -> None:
    members = ["a", "b"]
    one, other = (gate(bus_settings, member, members) for member in members)
    assert meets(one, 0.05) == "GateUnreachableError"
    if verb == "release":
        other.meet(soon())
        one.meet(soon())  # it reads the wake-up that waits for it
    elif verb == "break":
        other.break_up("b gave up")
        assert meets(one) == "GateBrokenError"
    with bus.connect(bus_settings) as client:
        keys = list(client.scan_iter(match=f"{names.gate_key(CAPTURE, 1, 'held')}*"))
        assert len(keys) == {"arrive": 2, "release": 4, "break": 3}[verb]
        assert [key for key in keys if not 0 < client.ttl(key) <= KEEP_S] == []


def test_a_wake_up_is_read_where_it_lies(bus_settings: BusSettings) -> None:
    """Moved elsewhere it would be lost with an answer that is lost, and lie in a key without an end."""
    members = ["a", "b"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meets, gate(bus_settings, "a", members))
        other = gate(bus_settings, "b", members)
        while other.look().so_far < 1:
            time.sleep(0.01)
        other.meet(soon())
        assert waiting.result() == "released"
    with bus.connect(bus_settings) as client:
        keys = sorted(client.scan_iter(match=f"{names.gate_key(CAPTURE, 1, 'held')}*"))
        assert [key for key in keys if client.ttl(key) <= 0] == []
        assert client.lrange(f"{names.gate_key(CAPTURE, 1, 'held')}:wake:a", 0, -1) == ["released"]


def test_a_wait_for_others_that_are_late_is_no_fault_of_redis(bus_settings: BusSettings) -> None:
    for epoch in range(1, 6):
        with pytest.raises(GateUnreachableError) as caught:
            gate(bus_settings, "a", ["a", "b"], epoch=epoch).meet(soon(0.2))
        assert caught.value.fault is None
