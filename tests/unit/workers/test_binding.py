"""A host's id belongs to one machine: the second is refused, whichever way it came to the id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from freezeframe import bus, presence
from freezeframe.contract import names
from freezeframe.contract.machine import Machine
from freezeframe.settings import BusSettings, HostSettings
from workers import binding
from workers.binding import Binding, HostIdMissingError, HostIdTakenError, check_chosen, this_machine

HOST = "localhost.localdomain"
ONE = Machine(machine_id="1" * 32, product_uuid="aa", name="one")
CLONE = Machine(machine_id="1" * 32, product_uuid="bb", name="clone")
OTHER = Machine(machine_id="2" * 32, product_uuid="cc", name="other")


@pytest.fixture
def client(bus_settings: BusSettings) -> Iterator[redis.Redis]:
    made = bus.connect(bus_settings)
    yield made
    made.close()


class Hosts:
    """Machines that all use one host id, each with a state directory of its own."""

    def __init__(self, client: redis.Redis, place: Path) -> None:
        self._client = client
        self._place = place

    def settings(self, machine: Machine) -> HostSettings:
        return HostSettings(host_id=HOST, state_dir=self._place / machine.name, run_dir=self._place)

    def binding(self, machine: Machine, state_of: Machine | None = None) -> Binding:
        return Binding(self.settings(state_of or machine), self._client, machine)

    def come_up(self) -> None:
        self._client.set(names.alive_key(HOST), "1")

    def go_down(self) -> None:
        self._client.delete(names.alive_key(HOST))


@pytest.fixture
def hosts(client: redis.Redis, tmp_path: Path) -> Hosts:
    client.flushdb()
    made = Hosts(client, tmp_path)
    made.binding(ONE).check()
    made.come_up()
    return made


def test_a_machine_keeps_its_id_over_restarts_of_workers_and_of_redis(hosts: Hosts, client: redis.Redis) -> None:
    hosts.binding(ONE).check()
    client.flushdb()
    hosts.binding(ONE).check()
    hosts.binding(ONE).check_in_redis()


@pytest.mark.case("I4")
@pytest.mark.parametrize("second", [OTHER, CLONE])
@pytest.mark.parametrize("take", [False, True])
def test_the_second_machine_with_an_id_that_is_in_use_is_refused_and_told_the_setting(
    hosts: Hosts, second: Machine, *, take: bool
) -> None:
    with pytest.raises(HostIdTakenError, match=r"in use on machine one .* another machine, " + second.name) as caught:
        hosts.binding(second).check(take=take)
    assert "FREEZEFRAME_HOST_ID" in caught.value.hint
    hosts.binding(ONE).check()


def test_the_id_of_a_machine_that_is_gone_is_refused_unless_it_is_taken(hosts: Hosts) -> None:
    hosts.go_down()
    with pytest.raises(HostIdTakenError, match="not been heard of") as caught:
        hosts.binding(OTHER).check()
    assert "freezeframe worker control --take-host-id" in caught.value.hint
    hosts.binding(OTHER).check(take=True)
    hosts.binding(OTHER).check()
    hosts.come_up()
    with pytest.raises(HostIdTakenError, match="in use on machine other"):
        hosts.binding(ONE).check()


@pytest.mark.case("I4")
def test_a_state_directory_that_came_with_a_clone_is_refused_also_with_an_empty_redis(
    hosts: Hosts, client: redis.Redis
) -> None:
    client.flushdb()
    with pytest.raises(HostIdTakenError, match="belongs to machine one") as caught:
        hosts.binding(CLONE, state_of=ONE).check()
    assert "FREEZEFRAME_HOST_ID" in caught.value.hint
    assert client.get(names.machine_key(HOST)) is None
    hosts.binding(CLONE, state_of=ONE).check(take=True)
    hosts.binding(CLONE, state_of=ONE).check()


def test_a_host_that_was_forgotten_leaves_its_id_to_the_next(hosts: Hosts, client: redis.Redis) -> None:
    hosts.go_down()
    presence.forget(client, HOST)
    hosts.binding(OTHER).check()


def test_of_two_that_run_when_redis_comes_back_empty_one_has_to_end(hosts: Hosts, client: redis.Redis) -> None:
    client.flushdb()
    one, other = hosts.binding(ONE), hosts.binding(OTHER)
    other.check_in_redis()
    hosts.come_up()
    with pytest.raises(HostIdTakenError):
        one.check_in_redis()


@pytest.mark.parametrize("here", [True, False])
def test_a_binding_that_cannot_be_read_is_not_taken_for_none(hosts: Hosts, client: redis.Redis, *, here: bool) -> None:
    if here:
        (hosts.settings(ONE).state_dir / "machine.json").write_text('{"v": 2}')
    else:
        client.set(names.machine_key(HOST), "{")
    with pytest.raises(HostIdTakenError, match="cannot be read"):
        hosts.binding(ONE).check()
    hosts.binding(ONE).check(take=True)
    hosts.binding(ONE).check()


def test_a_redis_that_refuses_writes_keeps_no_host_from_starting(hosts: Hosts, client: redis.Redis) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise redis.ResponseError("MISCONF Redis is configured to save RDB snapshots")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "set", refuse)
        hosts.binding(ONE).check()
        with pytest.raises(HostIdTakenError):
            hosts.binding(OTHER).check()
        client.flushdb()
        hosts.binding(ONE).check()


def test_a_redis_that_permits_nothing_is_left_to_the_worker_to_tell(hosts: Hosts, client: redis.Redis) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise redis.exceptions.NoPermissionError("NOPERM this user has no permissions to access the key")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "set", refuse)
        patch.setattr(client, "get", refuse)
        hosts.binding(ONE).check()


def test_a_redis_that_is_away_is_waited_for(hosts: Hosts, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[type[Exception] | None] = [redis.ConnectionError, redis.TimeoutError, None]
    get = client.get

    def away(key: str) -> object:
        if (error := answers.pop(0) if answers else None) is not None:
            raise error
        return get(key)

    monkeypatch.setattr(binding, "PAUSE_S", 0)
    monkeypatch.setattr(client, "get", away)
    with pytest.raises(HostIdTakenError):
        hosts.binding(OTHER).check()
    assert answers == []


def test_a_binding_is_renewed_once_an_hour(hosts: Hosts, client: redis.Redis) -> None:
    """It is looked at every few seconds, and lasts a month."""
    now = [0.0]
    bound = Binding(hosts.settings(ONE), client, ONE, lambda: now[0])
    key = names.machine_key(HOST)
    for now[0], renewed in ((0.0, True), (binding.RENEWAL_S, False), (binding.RENEWAL_S + 1, True)):
        client.persist(key)
        bound.check_in_redis()
        assert (client.ttl(key) > 0) is renewed


def test_what_a_later_program_adds_is_passed_over() -> None:
    assert Machine.model_validate({**ONE.model_dump(), "more": 1}) == ONE


def test_a_firmware_uuid_that_only_one_of_them_knows_is_no_difference() -> None:
    unknown = ONE.model_copy(update={"product_uuid": None})
    assert ONE.is_same(unknown)
    assert unknown.is_same(ONE)
    assert unknown.is_same(unknown)
    assert not unknown.is_same(OTHER)


def test_a_machine_is_known_by_its_id_and_its_firmware(tmp_path: Path) -> None:
    settings = HostSettings(host_id="a", state_dir=tmp_path, run_dir=tmp_path)
    (tmp_path / "id").write_text("AB12\n")
    (tmp_path / "uuid").write_text("CD-34\n")
    found = this_machine(settings, tmp_path / "id", tmp_path / "uuid")
    assert (found.machine_id, found.product_uuid) == ("ab12", "cd-34")


@pytest.mark.parametrize("text", ["", "uninitialized\n", None])
def test_a_machine_without_an_id_keeps_the_one_that_it_is_given(tmp_path: Path, text: str | None) -> None:
    settings = HostSettings(host_id="a", state_dir=tmp_path / "state", run_dir=tmp_path)
    if text is not None:
        (tmp_path / "id").write_text(text)
    found = this_machine(settings, tmp_path / "id", tmp_path / "uuid")
    assert len(found.machine_id) == 32
    assert this_machine(settings, tmp_path / "id", tmp_path / "uuid") == found


@pytest.mark.case("I4")
@pytest.mark.parametrize("name", sorted(binding.EVERYBODYS))
def test_a_name_that_every_machine_has_is_an_id_only_if_somebody_chose_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("FREEZEFRAME_HOST_ID", raising=False)
    monkeypatch.setattr(HostSettings.model_fields["host_id"], "default_factory", lambda: name)
    HostSettings.model_rebuild(force=True)
    try:
        with pytest.raises(HostIdMissingError, match=name) as caught:
            check_chosen(HostSettings())
        assert "FREEZEFRAME_HOST_ID" in caught.value.hint
        monkeypatch.setenv("FREEZEFRAME_HOST_ID", name)
        check_chosen(HostSettings())
    finally:
        monkeypatch.undo()
        HostSettings.model_rebuild(force=True)
