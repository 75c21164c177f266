"""One machine, as README's "Use it": `freezeframe up` has a Redis of its own, and every verb beside it asks that one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from freezeframe import bus as bus_module
from freezeframe.cli.address import AddressUnreadableError, address_file, bus_settings, private_settings
from freezeframe.cli.private_redis import private_redis
from freezeframe.contract import names
from freezeframe.contract.machine import Machine
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, HostSettings
from tests.unit.told_run import tell_run
from tests.unit.workers.test_own_redis import meet_redis
from workers.binding import this_machine
from workers.claims import Claims
from workers.host import open_host
from workers.journal import ClaimChange, Journal

from .manifests import capture_id
from .run import Run

TEST_GUEST = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # the one guest of libvirt's test driver
CAPTURE = capture_id(1)
NOBODY_UID = 65534


@pytest.fixture
def up(bus: BusSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The private Redis of an `up`, which only its file names."""
    monkeypatch.delenv("FREEZEFRAME_REDIS_URL")
    address_file().parent.mkdir(parents=True)
    address_file().write_text(f"{bus.redis_url.get_secret_value()}\n")
    with closing(bus_module.connect(bus)) as client:
        yield client


@pytest.fixture
def open_capture(repository: Repository) -> None:
    """A capture has a guest of this host, and has not ended here."""
    state_dir = HostSettings().state_dir
    Claims(state_dir).take(TEST_GUEST, CAPTURE)
    Journal(state_dir).of(CAPTURE).record(ClaimChange(guest_uuid=TEST_GUEST))


def run_is(client: redis.Redis, state: str) -> None:
    tell_run(client, CAPTURE, state)


def recovered(run: Run, *options: str) -> tuple[int, list[str]]:
    ran = run("recover", "--json", *options)
    return ran.exit_code, [one["state"] for one in ran.document["captures"]]


def holder() -> str | None:
    return Claims(HostSettings().state_dir).holder(TEST_GUEST)


def test_recover_asks_the_redis_of_up(run: Run, up: redis.Redis, open_capture: None) -> None:
    run_is(up, "transferring")
    assert recovered(run) == (0, ["running"])
    assert holder() == CAPTURE
    run_is(up, "failed")
    assert recovered(run) == (0, ["undone"])
    assert holder() is None


def test_a_redis_that_is_as_good_as_empty_ends_no_capture(run: Run, bus: BusSettings, open_capture: None) -> None:
    """As Debian's package starts one; `up` may be down, and go on with the run when it is started again."""
    assert recovered(run) == (6, ["unknown"])
    assert holder() == CAPTURE
    table = run("recover").stdout
    assert "no record of the run" in table
    assert "freezeframe up" in table
    assert recovered(run, "--force") == (0, ["undone"])


def test_the_workers_own_redis_ends_a_run_that_it_does_not_know(run: Run, bus: BusSettings, open_capture: None) -> None:
    meet_redis(open_host(bus))
    assert recovered(run) == (0, ["undone"])


def test_a_redis_that_other_workers_use_ends_no_capture(run: Run, bus: BusSettings, open_capture: None) -> None:
    """Of an earlier installation, say: this host was there too, under the same id."""
    meet_redis(open_host(bus))
    with closing(bus_module.connect(bus)) as client:
        client.set(names.REDIS_ID_KEY, "0" * 32)
    assert recovered(run) == (6, ["unknown"])
    assert holder() == CAPTURE


def test_a_redis_that_was_emptied_while_the_workers_were_down_ends_no_capture(
    run: Run, bus: BusSettings, open_capture: None
) -> None:
    meet_redis(open_host(bus))
    with closing(bus_module.connect(bus)) as client:
        client.flushall()
    assert recovered(run) == (6, ["unknown"])


def test_after_an_up_that_was_killed_nobody_is_touched(
    run: Run, place: Path, open_capture: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file still names a Redis that is gone."""
    address_file().parent.mkdir(parents=True)
    address_file().write_text("redis://:x@127.0.0.1:1/0\n")
    assert recovered(run) == (6, ["unknown"])
    assert holder() == CAPTURE
    ran = run("hosts")
    assert ran.exit_code == 6
    assert "Start the system (`freezeframe up`)" in ran.stderr


def test_a_redis_that_the_settings_name_comes_first(
    run: Run, up: redis.Redis, bus: BusSettings, open_capture: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    address_file().write_text("redis://:x@127.0.0.1:1/0\n")
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", bus.redis_url.get_secret_value())
    run_is(up, "transferring")
    assert recovered(run) == (0, ["running"])


@pytest.mark.parametrize("verb", [("hosts",), ("guests",), ("captures",), ("hosts", "forget", "host-b"), ("recover",)])
def test_every_verb_asks_the_redis_of_up(
    run: Run, up: redis.Redis, repository: Repository, open_capture: None, verb: tuple[str, ...]
) -> None:
    asked_before = up.info("stats")["total_connections_received"]
    assert run(*verb).exit_code in {0, 4, 6}
    assert up.info("stats")["total_connections_received"] > asked_before


@contextmanager
def as_another_user() -> Iterator[None]:
    """A user whom directories of mode 0700 keep out."""
    if os.geteuid():
        address_file().chmod(0)
        yield
        return
    os.seteuid(NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(0)


def test_another_user_than_that_of_up_is_not_sent_to_another_redis(up: redis.Redis) -> None:
    address_file().parent.chmod(0o700)
    with as_another_user(), pytest.raises(AddressUnreadableError, match="cannot be read") as told:
        bus_settings()
    assert told.value.exit_code == 6
    assert "sudo" in told.value.hint


@pytest.mark.parametrize("left", [b"", b"\xff\xfe", b"http://127.0.0.1:1/\n"])
def test_a_file_without_an_address_is_told(run: Run, up: redis.Redis, repository: Repository, left: bytes) -> None:
    address_file().write_bytes(left)
    ran = run("hosts", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (6, "redis-address")
    assert str(address_file()) in ran.document["error"]["message"]
    assert run("captures").exit_code == 0  # the repository needs no Redis


def test_no_verb_finds_half_an_address(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `up` writes the file anew, over that of one that was killed."""
    host = HostSettings()
    host.run_dir.mkdir(parents=True)
    address_file().write_text("redis://:old@127.0.0.1:7/0\n")
    seen: list[str] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        found = private_settings()
        assert found is not None
        seen.append(found.redis_url.get_secret_value())
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with private_redis(host) as own:
        assert (settings := private_settings()) is not None
        assert settings.redis_url.get_secret_value() == own.url
        assert seen[-1] == "redis://:old@127.0.0.1:7/0"
        assert address_file().stat().st_mode & 0o777 == 0o600
    assert private_settings() is None


def test_a_host_id_is_taken_beside_up(run: Run, up: redis.Redis) -> None:
    """As the refusal of its workers advises, after the machine was installed anew: at both places, and no worker stays."""
    settings = HostSettings()
    other = Machine(machine_id="1" * 32, product_uuid=None, name="before").model_dump_json()
    settings.state_dir.mkdir(parents=True)
    (settings.state_dir / "machine.json").write_text(other)
    up.set(names.machine_key(settings.host_id), other)
    ran = run("worker", "control", "--take-host-id")
    assert ran.exit_code == 0
    assert "host-a.example belongs to this machine now" in ran.stdout
    for text in (up.get(names.machine_key(settings.host_id)), (settings.state_dir / "machine.json").read_text()):
        assert Machine.model_validate_json(str(text)).is_same(this_machine(settings))


def test_a_host_id_is_not_taken_beside_an_up_that_is_gone(run: Run, place: Path) -> None:
    address_file().parent.mkdir(parents=True)
    address_file().write_text("redis://:x@127.0.0.1:1/0\n")
    ran = run("worker", "control", "--take-host-id")
    assert ran.exit_code == 6
    assert "Start `freezeframe up`" in ran.stderr
    assert not (HostSettings().state_dir / "machine.json").exists()
