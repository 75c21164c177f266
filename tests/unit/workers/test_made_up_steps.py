"""A fleet's made-up steps tell what the real ones tell, and ask Redis what the real ones ask."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from freezeframe.contract.order import ReleaseOrder
from freezeframe.settings import BusSettings
from ops.fleet.made_up import SIZE_STEP_BYTES, MadeUp
from ops.fleet.steps import MadeUpSteps
from tests.scale.monitored import monitored, shape
from tests.unit.orders import prepare_order, transfer_order
from tests.unit.workers.exported import Guest
from tests.unit.workers.hold_site import FREEZE, Site, results
from workers.host import Host
from workers.steps.release import release

STEPS = MadeUpSteps(MadeUp(1, 1, 1), {SIZE_STEP_BYTES: "a" * 64})
#: How often a clock is read depends on how fast Redis answers, and how a connection begins on its version.
BY_CHANCE = ("TIME", "CLIENT", "HELLO", "ECHO", "SCRIPT", "PING", "EVAL ")


def counted(commands: list[str]) -> Counter[str]:
    return Counter(one for one in commands if not one.startswith(BY_CHANCE))


def test_a_hold_meets_the_others_by_the_same_commands_and_tells_as_much(site: Site, bus_settings: BusSettings) -> None:
    order = {host_id: site.order(host_id, FREEZE) for host_id in site.members}
    with monitored(bus_settings) as real:
        told = results(site.hold(hold=FREEZE))
    site.hosts["host-a"].redis.flushall()
    with monitored(bus_settings) as made_up, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda one: STEPS.hold(site.hosts[one], order[one]), site.members))
    assert counted(made_up) == counted(real)
    assert "TIME" in made_up
    assert shape(answers[0]) == shape(told[0])


def test_a_transfer_gives_the_same_signs_of_life(host: Host, tmp_path: Path, bus_settings: BusSettings) -> None:
    guest = Guest(host, tmp_path)
    with monitored(bus_settings) as real:
        told = guest.full()
    host.redis.flushall()
    with monitored(bus_settings) as made_up:
        answer = STEPS.transfer(host, transfer_order(capture_id=told.capture_id, size_bytes=SIZE_STEP_BYTES))
    assert counted(made_up).keys() == counted(real).keys()
    assert shape(answer).items() <= shape(told).items()


def test_a_release_asks_redis_nothing(host: Host, bus_settings: BusSettings) -> None:
    order = ReleaseOrder(
        capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA", epoch=1, host_id="host-a", not_after=prepare_order().not_after
    )
    with monitored(bus_settings) as real:
        told = release(host, order)
    with monitored(bus_settings) as made_up:
        answer = STEPS.release(host, order)
    assert counted(made_up) == counted(real) == {}
    assert answer == told
