"""Hosts of another version are refused by name before any of their guests is touched, and keep no other out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis

from freezeframe import bus, presence
from freezeframe.contract import names
from freezeframe.contract.inventory import CONTRACT, GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import Policy
from freezeframe.presence import KnownHost
from freezeframe.settings import BusSettings
from orchestrator.errors import HostContractError
from orchestrator.planner import plan_hosts, unfit_faults

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    with contextlib.closing(bus.connect(bus_settings)) as found:
        yield found


def entry(number: int, contract: int = CONTRACT) -> HostEntry:
    guest = GuestEntry(guest_uuid=f"00000000-0000-4000-8000-{number:012x}", name=f"web{number}", state="running")
    return HostEntry(
        host_id=f"host-{number}",
        contract=contract,
        at=datetime.now(UTC),
        freezeframe_version="0.0.9",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=(guest,),
    )


def known(*entries: HostEntry) -> list[KnownHost]:
    return [KnownHost(one, alive=True) for one in entries]


def request(policy: Policy) -> CaptureRequest:
    return CaptureRequest(capture_id=CAPTURE, every_guest=True, policy=policy)


@pytest.mark.parametrize(
    ("contract", "said", "advice"),
    [
        (CONTRACT - 1, "is too old", "host host-2 to the newer"),
        (CONTRACT + 1, "is newer than", "the orchestrator's machine"),
    ],
)
def test_a_host_of_another_contract_is_refused_by_name(contract: int, said: str, advice: str) -> None:
    """Its guests would be prepared, and then it would not understand the order to hold."""
    hosts = known(entry(1), entry(2, contract))
    with pytest.raises(HostContractError, match=rf"on host host-2 \(0\.0\.9\) {said}") as caught:
        plan_hosts(request(Policy.ALL), hosts)
    assert advice in caught.value.hint
    assert caught.value.exit_code == 3


def test_under_degrade_the_others_go_on_and_the_host_is_named() -> None:
    hosts = known(entry(1), entry(2, CONTRACT - 1))
    planned = plan_hosts(request(Policy.DEGRADE), hosts)
    assert [one.host_id for one in planned] == ["host-1"]
    (fault,) = unfit_faults(request(Policy.DEGRADE), hosts)
    assert (fault.code, fault.host, fault.guest) == ("host-version", "host-2", "web2")


def test_a_host_that_is_not_asked_for_keeps_nobody_out() -> None:
    hosts = known(entry(1), entry(2, CONTRACT + 1))
    asked = CaptureRequest(capture_id=CAPTURE, guests=("web1",))
    assert [one.host_id for one in plan_hosts(asked, hosts)] == ["host-1"]


def test_an_entry_that_says_nothing_of_it_is_of_the_first(client: redis.Redis) -> None:
    """As the version before has published it: it knew no such field."""
    presence.publish(client, entry(1))
    older = json.loads(entry(2).model_dump_json())
    del older["contract"]
    client.set(names.host_key("host-2"), json.dumps(older))
    assert [one.entry.contract for one in presence.known_hosts(client)] == [CONTRACT, 1]
    found = presence.entries_of(client, ["host-2"]).get("host-2")
    assert found is not None
    assert found.contract == 1
    assert presence.unread_hosts(client) == []


def test_hosts_are_read_a_hundred_at_a_time(client: redis.Redis) -> None:
    """One after the other they were two exchanges each, at every request and every completion."""
    for number in range(250):
        presence.publish(client, entry(number))
    client.delete(names.alive_key("host-7"), names.host_key("host-8"))
    client.set(names.host_key("host-9"), "{")
    before = client.info("commandstats")
    hosts = presence.known_hosts(client)
    after = client.info("commandstats")
    asked = {name: one["calls"] - before.get(name, {"calls": 0})["calls"] for name, one in after.items()}
    assert asked["cmdstat_mget"] == 3
    assert sum(asked.values()) <= 3 + 2 + asked["cmdstat_scan"] + 5  # INFO itself, and the set of hosts
    assert len(hosts) == 248
    assert [one.entry.host_id for one in hosts if not one.alive] == ["host-7"]
    assert [one.host_id for one in presence.unread_hosts(client)] == ["host-9"]
