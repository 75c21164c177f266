"""The planner: who takes part, and what cannot be asked for."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest, DiskChoice, HoldChoice
from freezeframe.contract.words import HoldKind
from freezeframe.presence import KnownHost
from orchestrator.errors import (
    AmbiguousGuestError,
    HeldTwiceError,
    HostDownError,
    NoGuestsError,
    SplitGuestError,
    UnknownGuestError,
)
from orchestrator.planner import left_out, plan_hosts
from tests.odd_names import ODD_NAMES

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


def uuid_of(letter: str) -> str:
    return f"00000000-0000-4000-8000-00000000000{letter}"


def host(host_id: str, *guests: tuple[str, str, str], alive: bool = True) -> KnownHost:
    entries = tuple(GuestEntry(guest_uuid=uuid_of(letter), name=name, state=state) for letter, name, state in guests)
    entry = HostEntry(
        host_id=host_id,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=entries,
    )
    return KnownHost(entry, alive)


def plan(hosts: list[KnownHost], **request: Any) -> dict[str, list[str]]:
    asked = CaptureRequest.model_validate({"capture_id": CAPTURE, **request})
    planned = plan_hosts(asked, hosts)
    return {one.host_id: [guest.name for guest in one.guests] for one in planned}


HOSTS = [
    host("host-a", ("a", "alpha", "running"), ("b", "beta", "shut off")),
    host("host-b", ("c", "gamma", "running"), ("d", "twin", "running")),
    host("host-c", ("e", "twin", "running"), alive=True),
    host("host-d", ("f", "delta", "running"), alive=False),
]


def test_guests_are_found_by_name_uuid_and_name_at_host() -> None:
    assert plan(HOSTS, guests=("alpha", uuid_of("c"), "twin@host-c")) == {
        "host-a": ["alpha"],
        "host-b": ["gamma"],
        "host-c": ["twin"],
    }


def test_a_guest_that_is_named_twice_takes_part_once() -> None:
    assert plan(HOSTS, guests=("alpha", uuid_of("a"))) == {"host-a": ["alpha"]}


def test_every_guest_means_those_that_run() -> None:
    assert plan(HOSTS[:3], every_guest=True) == {"host-a": ["alpha"], "host-b": ["gamma", "twin"], "host-c": ["twin"]}
    with pytest.raises(NoGuestsError):
        plan([host("host-a", ("b", "beta", "shut off"))], every_guest=True)


STANDING = [
    host("host-a", ("a", "alpha", "running"), ("b", "beta", "paused"), ("c", "gamma", "pmsuspended")),
    host("host-b", ("d", "delta", "crashed"), ("e", "eta", "in shutdown"), ("f", "zeta", "shut off")),
]


def without(**request: Any) -> dict[str, str]:
    asked = CaptureRequest.model_validate({"capture_id": CAPTURE, **request})
    return {one.guest: f"{one.host}: {one.reason}" for one in left_out(asked, STANDING)}


@pytest.mark.case("P6")
def test_every_guest_leaves_out_by_name_what_does_not_run() -> None:
    assert plan(STANDING, every_guest=True) == {"host-a": ["alpha"]}
    assert without(every_guest=True) == {
        "beta": "host-a: it is paused",
        "gamma": "host-a: it is suspended to memory (S3)",
        "delta": "host-b: it has crashed and is kept as it was",
        "eta": "host-b: it is shutting down",
    }


@pytest.mark.case("P6")
def test_every_guest_without_a_hold_takes_them_as_they_are() -> None:
    assert plan(STANDING, every_guest=True, hold="none") == {"host-a": ["alpha", "beta", "gamma"], "host-b": ["delta"]}
    assert set(without(every_guest=True, hold="none")) == {"eta"}
    own = ({"guest": "beta", "kind": "none"},)
    assert plan(STANDING, every_guest=True, guest_holds=own) == {"host-a": ["alpha", "beta"]}
    assert set(without(every_guest=True, guest_holds=own)) == {"gamma", "delta", "eta"}


@pytest.mark.case("P6")
def test_a_guest_that_was_named_is_not_left_out() -> None:
    """Its host refuses it, with its state."""
    assert plan(STANDING, guests=("alpha", "beta")) == {"host-a": ["alpha", "beta"]}
    assert without(guests=("alpha", "beta")) == {}


@pytest.mark.case("P6")
def test_if_nothing_runs_what_stands_is_named() -> None:
    with pytest.raises(NoGuestsError, match=r"beta \(paused\)") as caught:
        plan([host("host-a", ("b", "beta", "paused"))], every_guest=True)
    assert "--hold none" in caught.value.hint


@pytest.mark.case("P6")
def test_a_dead_host_s_paused_guest_is_in_nobody_s_way() -> None:
    dead = host("host-c", ("b", "beta", "paused"), alive=False)
    assert plan([STANDING[0], dead], every_guest=True) == {"host-a": ["alpha"]}


def test_an_unknown_guest_is_named_and_a_near_one_offered() -> None:
    with pytest.raises(UnknownGuestError, match="alhpa") as caught:
        plan(HOSTS, guests=("alhpa",))
    assert "alpha" in caught.value.hint


def test_a_name_on_two_hosts_is_ambiguous() -> None:
    with pytest.raises(AmbiguousGuestError) as caught:
        plan(HOSTS, guests=("twin",))
    assert "twin@host-b, twin@host-c" in caught.value.hint


def test_a_host_that_is_down_is_named_with_its_guest() -> None:
    with pytest.raises(HostDownError, match=r"delta is on host host-d.*2026-01-01 00:00:00"):
        plan(HOSTS, guests=("delta",))
    with pytest.raises(HostDownError, match="host-d"):
        plan(HOSTS, every_guest=True)


def test_a_guest_that_two_hosts_show_is_where_it_runs() -> None:
    here, there = host("host-a", ("a", "alpha", "shut off")), host("host-b", ("a", "alpha", "running"))
    gone = host("host-c", ("a", "alpha", "running"), alive=False)
    assert plan([here, there, gone], guests=("alpha",)) == {"host-b": ["alpha"]}
    assert plan([here, there], every_guest=True) == {"host-b": ["alpha"]}


def test_a_guest_that_moved_off_a_dead_host_is_captured_where_it_is() -> None:
    gone, there = host("host-a", ("a", "alpha", "running"), alive=False), host("host-b", ("a", "alpha", "running"))
    assert plan([gone, there], every_guest=True) == {"host-b": ["alpha"]}


def test_disks_to_leave_out_belong_to_a_chosen_guest() -> None:
    asked = CaptureRequest(capture_id=CAPTURE, guests=("alpha",), skip_disks=(DiskChoice.parse("alpha:vdb"),))
    assert plan_hosts(asked, HOSTS)[0].guests[0].skip == ("vdb",)
    stray = asked.model_copy(update={"skip_disks": (DiskChoice.parse("gamma:vdb"),)})
    with pytest.raises(UnknownGuestError, match="gamma"):
        plan_hosts(stray, HOSTS)


@pytest.mark.case("P3")
def test_disks_to_decrypt_belong_to_a_chosen_guest() -> None:
    asked = CaptureRequest(capture_id=CAPTURE, guests=("alpha",), decrypt_disks=(DiskChoice.parse("alpha:vdb"),))
    guest = plan_hosts(asked, HOSTS)[0].guests[0]
    assert (guest.decrypt, guest.skip) == (("vdb",), ())
    with pytest.raises(UnknownGuestError, match="gamma"):
        plan_hosts(asked.model_copy(update={"decrypt_disks": (DiskChoice.parse("gamma:vdb"),)}), HOSTS)


def holds(**request: Any) -> dict[str, str]:
    asked = CaptureRequest.model_validate({"capture_id": CAPTURE, **request})
    return {guest.name: str(guest.hold) for one in plan_hosts(asked, HOSTS) for guest in one.guests}


def test_a_guest_may_have_a_hold_of_its_own() -> None:
    own = (HoldChoice(guest="gamma", kind=HoldKind.PAUSE), HoldChoice(guest=uuid_of("a"), mountpoints=("/srv",)))
    assert holds(guests=("alpha", "gamma", "twin@host-c"), guest_holds=own) == {
        "alpha": "freeze (/srv)",
        "gamma": "pause",
        "twin": "freeze",
    }


def test_a_hold_for_a_guest_that_is_not_captured_is_refused() -> None:
    with pytest.raises(UnknownGuestError, match="gamma"):
        holds(guests=("alpha",), guest_holds=(HoldChoice(guest="gamma", kind=HoldKind.PAUSE),))


def test_two_holds_for_one_guest_are_refused_however_it_is_called() -> None:
    twice = (HoldChoice(guest="alpha", kind=HoldKind.PAUSE), HoldChoice(guest=uuid_of("a"), kind=HoldKind.NONE))
    with pytest.raises(HeldTwiceError, match="alpha"):
        holds(guests=("alpha",), guest_holds=twice)


def test_mount_points_for_a_hold_that_freezes_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="mount points of alpha"):
        holds(guests=("alpha",), hold="pause", guest_holds=(HoldChoice(guest="alpha", mountpoints=("/srv",)),))


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_guest_of_any_name_is_found_alone_and_at_its_host(name: str) -> None:
    known = [host("host-a", ("a", name, "running")), host("host-b", ("b", "other", "running"))]
    for word in (name, f"{name}@host-a"):
        assert plan(known, guests=(word,)) == {"host-a": [name]}
        asked = CaptureRequest(capture_id=CAPTURE, guests=(word,), skip_disks=(DiskChoice.parse(f"{word}:vdb"),))
        assert plan_hosts(asked, known)[0].guests[0].skip == ("vdb",)


@pytest.mark.case("I5")
def test_an_at_is_part_of_a_name_where_there_is_no_such_host() -> None:
    known = [host("host-a", ("a", "db@prod", "running"), ("b", "db", "running"))]
    assert plan(known, guests=("db@prod",)) == {"host-a": ["db@prod"]}
    assert plan(known, guests=("db@prod@host-a",)) == {"host-a": ["db@prod"]}
    assert plan(known, guests=("db@host-a",)) == {"host-a": ["db"]}


@pytest.mark.case("I5")
def test_a_name_that_is_also_a_name_at_a_host_is_ambiguous_and_uuids_are_the_way_out() -> None:
    known = [host("host-a", ("a", "db@prod", "running")), host("prod", ("b", "db", "running"))]
    with pytest.raises(AmbiguousGuestError) as caught:
        plan(known, guests=("db@prod",))
    assert caught.value.hint == f"Name one of {uuid_of('b')}, db@prod@host-a."
    for way in (uuid_of("b"), "db@prod@host-a"):
        assert len(plan(known, guests=(way,))) == 1


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_ways_out_of_an_ambiguity_work_when_pasted(name: str) -> None:
    known = [host("host-a", ("a", name, "running")), host("host-b", ("b", name, "running"))]
    with pytest.raises(AmbiguousGuestError) as caught:
        plan(known, guests=(name,))
    ways = [shlex.quote(f"{name}@{host_id}") for host_id in ("host-a", "host-b")]
    assert caught.value.hint == f"Name one of {ways[0]}, {ways[1]}."
    assert [plan(known, guests=tuple(shlex.split(way))) for way in ways] == [{"host-a": [name]}, {"host-b": [name]}]


@pytest.mark.case("I5")
def test_a_uuid_always_means_that_guest() -> None:
    known = [host("host-a", ("a", uuid_of("b"), "running")), host("host-b", ("b", "beta", "running"))]
    assert plan(known, guests=(uuid_of("b"),)) == {"host-b": ["beta"]}
    assert plan(known, guests=(uuid_of("a"),)) == {"host-a": [uuid_of("b")]}
    assert plan(known, guests=(uuid_of("b").upper(),)) == {"host-b": ["beta"]}


TWICE = [host("host-a", ("a", "alpha", "running")), host("host-b", ("a", "alpha", "running"))]


@pytest.mark.case("I6")
@pytest.mark.parametrize("request_", [{"guests": ("alpha",)}, {"guests": (uuid_of("a"),)}, {"every_guest": True}])
def test_a_guest_that_runs_on_two_hosts_is_refused_with_both_and_the_way_out(request_: dict[str, Any]) -> None:
    with pytest.raises(SplitGuestError, match="host-a and on host-b") as caught:
        plan(TWICE, **request_)
    assert "alpha@host-a or alpha@host-b" in caught.value.hint
    assert uuid_of("a") in caught.value.message


@pytest.mark.case("I6")
def test_the_way_out_of_a_guest_on_two_hosts_works() -> None:
    assert plan(TWICE, guests=("alpha@host-b",)) == {"host-b": ["alpha"]}
    own = (HoldChoice(guest="alpha", kind=HoldKind.PAUSE),)
    assert plan(TWICE, guests=("alpha@host-a",), guest_holds=own) == {"host-a": ["alpha"]}


def test_naming_both_of_a_guest_on_two_hosts_is_refused_too() -> None:
    with pytest.raises(SplitGuestError):
        plan(TWICE, guests=("alpha@host-a", "alpha@host-b"))


@pytest.mark.parametrize("state", ["paused", "shut off", "crashed"])
def test_a_guest_that_works_on_one_host_only_is_captured_there(state: str) -> None:
    """As while it migrates, and after one that left its definition behind."""
    hosts = [host("host-a", ("a", "alpha", state)), host("host-b", ("a", "alpha", "running"))]
    assert plan(hosts, guests=("alpha",)) == {"host-b": ["alpha"]}


def test_without_any_guest_that_has_a_qemu_nobody_is_named() -> None:
    with pytest.raises(NoGuestsError, match=r"^No host has a running guest\.$"):
        plan([host("host-a", ("b", "beta", "shut off"))], every_guest=True)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("nobody", "There is no guest nobody."),
        ("host-a", "There is no guest host-a."),
        ("nobody@host-a", "There is no guest nobody on host host-a."),
        ("alpha@host-x", "There is no guest alpha@host-x, and no host host-x with a guest alpha."),
        ("nobody@host-x", "There is no guest nobody@host-x."),
    ],
)
def test_an_unknown_guest_is_told_with_what_of_it_is_unknown(wanted: str, message: str) -> None:
    with pytest.raises(UnknownGuestError) as caught:
        plan(HOSTS, guests=(wanted,))
    assert caught.value.message == message


@pytest.mark.case("P6")
def test_a_guest_that_stands_on_one_host_is_not_looked_for_where_it_is_only_defined() -> None:
    hosts = [host("host-a", ("a", "alpha", "shut off")), host("host-b", ("a", "alpha", "paused"))]
    assert plan(hosts, guests=("alpha",)) == {"host-b": ["alpha"]}
    assert plan(hosts[::-1], guests=("alpha",)) == {"host-b": ["alpha"]}


@pytest.mark.case("I5")
def test_a_uuid_in_an_option_is_never_the_name_of_the_guest_that_is_captured() -> None:
    known = [host("host-a", ("a", uuid_of("b"), "running")), host("host-b", ("b", "beta", "running"))]
    with pytest.raises(UnknownGuestError, match=uuid_of("b")):
        plan(known, guests=(uuid_of("a"),), skip_disks=(DiskChoice.parse(f"{uuid_of('b')}:vdb"),))
