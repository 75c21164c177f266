"""`hosts`, `guests`, and what the shell completes from the same source."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from freezeframe import bus as bus_module
from freezeframe import presence
from freezeframe.cli import completion
from freezeframe.cli.address import address_file, bus_settings
from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry, StuckCapture
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings

from .manifests import GUEST, NOW, capture_id, manifest_of
from .run import Run


@pytest.fixture
def two_hosts(bus: BusSettings) -> Iterator[None]:
    """One with a guest that runs and one that does not; and one that has been silent."""
    with contextlib.closing(bus_module.connect(bus)) as client:
        for host_id in ("host-a.example", "host-b.example"):
            guests = tuple(
                GuestEntry(guest_uuid=GUEST, name=f"{name}-{host_id[5]}", state=state)
                for name, state in (("db", "running"), ("old", "shut off"))
            )
            entry = HostEntry(
                host_id=host_id,
                at=NOW,
                freezeframe_version="1",
                libvirt_version="9.0.0",
                qemu_version="7.2.0",
                guests=guests,
            )
            presence.publish(client, entry)
            client.persist(names.alive_key(host_id))  # alive for as long as the test takes
        client.delete(names.alive_key("host-b.example"))
        yield


def test_hosts_that_are_down_are_shown_since_when(run: Run, two_hosts: None) -> None:
    ran = run("hosts")
    assert ran.exit_code == 0
    assert "up" in next(line for line in ran.stdout.splitlines() if "host-a" in line)
    assert "down since 2026-03-01 12:00:00 UTC" in next(line for line in ran.stdout.splitlines() if "host-b" in line)
    assert [host["alive"] for host in run("hosts", "--json").document["hosts"]] == [True, False]


@pytest.mark.case("S5")
def test_what_a_host_could_not_undo_is_shown_with_it(run: Run, two_hosts: None, bus: BusSettings) -> None:
    with contextlib.closing(bus_module.connect(bus)) as client:
        [entry] = [host.entry for host in presence.known_hosts(client) if host.entry.host_id == "host-a.example"]
        stuck = StuckCapture(capture_id=capture_id(1), problems=("/state/[x]/changes: line 1 is not understood",))
        presence.publish(client, entry.model_copy(update={"stuck": (stuck,)}))
        client.persist(names.alive_key("host-a.example"))
    told = " ".join(run("hosts").stdout.split())
    assert f"Host host-a.example could not undo capture {capture_id(1)}: /state/[x]/changes: line 1" in told


@pytest.fixture
def unread_hosts(bus: BusSettings, two_hosts: None) -> Iterator[None]:
    """And one of a later version that is up, one whose entry is damaged that is down."""
    later = {"v": 2, "freezeframe_version": "9.1", "host_id": "host-n.example", "guests": {"of": "another shape"}}
    with contextlib.closing(bus_module.connect(bus)) as client:
        client.set(names.host_key("host-n.example"), json.dumps(later))
        client.set(names.alive_key("host-n.example"), "1")
        client.set(names.host_key("host-d.example"), '{"v": 1, "host_id"')
        yield


@pytest.mark.parametrize("verb", ["hosts", "guests"])
def test_a_host_that_this_version_cannot_read_is_named_and_not_passed_over(
    run: Run, unread_hosts: None, verb: str
) -> None:
    told = run(verb).stdout
    newer = "Host host-n.example is up, and its entry in the inventory is of version 2, as freezeframe 9.1 writes it, and newer"
    assert newer in told
    assert "Host host-d.example is down, and its entry in the inventory cannot be read" in told
    assert "freezeframe version" in told
    assert "host-a.example" in told
    unread = run(verb, "--json").document["unread_hosts"]
    assert [(one["host_id"], one["alive"]) for one in unread] == [("host-d.example", False), ("host-n.example", True)]


def test_guests_of_one_host_are_told_without_the_trouble_of_another(run: Run, unread_hosts: None) -> None:
    assert "host-n" not in run("guests", "--host", "host-a.example").stdout
    assert "host-n" in run("guests", "--host", "host-n.example").stdout


def test_a_host_that_cannot_be_read_is_forgotten_only_if_it_is_down(
    run: Run, unread_hosts: None, bus: BusSettings
) -> None:
    refused = run("hosts", "forget", "host-n.example")
    assert (refused.exit_code, "is up" in refused.stderr) == (3, True)
    assert run("hosts", "forget", "host-d.example", "--json").document == {
        "forgotten": "host-d.example",
        "guests": None,
    }
    with contextlib.closing(bus_module.connect(bus)) as client:
        assert [one.host_id for one in presence.unread_hosts(client)] == ["host-n.example"]


@pytest.mark.parametrize("text", ["", "[]", "null", "7", "{", '{"v": "2"}', '{"v": 0}', "[" * 100_000])
def test_whatever_is_there_in_place_of_an_entry_is_told(bus: BusSettings, text: str) -> None:
    with contextlib.closing(bus_module.connect(bus)) as client:
        client.set(names.host_key("host-d.example"), text)
        (found,) = presence.unread_hosts(client)
        assert found.why.startswith("cannot be read")
        assert presence.known_hosts(client) == []


def test_guests_of_all_hosts_or_one(run: Run, two_hosts: None) -> None:
    found = run("guests", "--json").document["guests"]
    assert [(one["name"], one["host_alive"]) for one in found] == [
        ("db-a", True),
        ("old-a", True),
        ("db-b", False),
        ("old-b", False),
    ]
    assert "db-b" not in run("guests", "--host", "host-a.example").stdout
    assert "the host is down" in run("guests").stdout


@pytest.mark.parametrize("verb", ["hosts", "guests"])
def test_without_redis(run: Run, no_bus: None, verb: str) -> None:
    ran = run(verb, "--json")
    assert ran.exit_code == 6
    assert ran.document["error"]["code"] == "unreachable"


@pytest.mark.parametrize("verb", ["hosts", "guests"])
def test_of_nobody(run: Run, bus: BusSettings, verb: str) -> None:
    assert run(verb).exit_code == 0
    assert run(verb, "--json").document == {verb: [], "unread_hosts": []}


def test_completion(two_hosts: None, repository: Repository) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    assert completion.guest_names("d") == ["db-a", "db-b"]
    assert completion.host_ids("host-b") == ["host-b.example"]
    assert completion.capture_ids("") == ["latest", capture_id(1)]


def test_completion_is_silent_in_trouble(no_bus: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.guest_names("") == []
    assert completion.capture_ids("x") == []
    assert capsys.readouterr() == ("", "")


def test_the_private_redis_of_up_is_found_by_its_file(place: Path) -> None:
    address_file().parent.mkdir(parents=True)
    address_file().write_text("redis://:x@127.0.0.1:7/0\n")
    assert bus_settings().redis_url.get_secret_value() == "redis://:x@127.0.0.1:7/0"


def test_an_address_of_the_settings_comes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", "redis://127.0.0.1:8/0")
    address_file().parent.mkdir(parents=True)
    address_file().write_text("redis://:x@127.0.0.1:7/0\n")
    assert bus_settings(0.5).redis_url.get_secret_value() == "redis://127.0.0.1:8/0"
    assert bus_settings(0.5).redis_timeout_s == 0.5


@pytest.mark.case("S1")
def test_a_host_that_is_gone_is_forgotten_with_what_waits_for_it(run: Run, two_hosts: None, bus: BusSettings) -> None:
    with contextlib.closing(bus_module.connect(bus)) as client:
        queues = names.host_queues("host-b.example")
        for queue in queues:
            client.rpush(queue, "an order")
        ran = run("hosts", "forget", "host-b.example")
        assert (ran.exit_code, ran.stdout) == (0, "Host host-b.example is forgotten, with 2 guests.\n")
        assert not client.exists(*queues)
        assert not client.exists(names.host_key("host-b.example"))
    assert [host["host_id"] for host in run("hosts", "--json").document["hosts"]] == ["host-a.example"]
    assert "host-b" not in run("guests").stdout


@pytest.mark.case("S1")
def test_a_host_that_is_up_is_not_forgotten(run: Run, two_hosts: None) -> None:
    ran = run("hosts", "forget", "host-a.example", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (3, "host-alive")
    assert len(run("hosts", "--json").document["hosts"]) == 2


@pytest.mark.case("S1")
def test_a_host_that_nobody_knows_is_told(run: Run, two_hosts: None) -> None:
    ran = run("hosts", "forget", "host-z", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (4, "unknown-host")
    assert run("hosts", "forget", "--help").exit_code == 0


@pytest.mark.case("S1")
def test_forgetting_prints_one_document(run: Run, two_hosts: None) -> None:
    document = run("hosts", "forget", "host-b.example", "--json").document
    assert document == {"forgotten": "host-b.example", "guests": ["db-b", "old-b"]}


@pytest.mark.case("S2")
def test_a_host_measures_its_clock_against_redis(bus: BusSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(bus_module.connect(bus)) as client:
        assert abs(presence.clock_ahead_s(client)) < 60
        monkeypatch.setattr(presence, "time", SimpleNamespace(time=lambda: time.time() + 3600))
        assert abs(presence.clock_ahead_s(client) - 3600) < 60
