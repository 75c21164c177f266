"""What is chosen for single guests: of guests that do not run, of guests nobody knows, twice for one guest."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from freezeframe import presence
from freezeframe.cli.capture import guest_holds
from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry
from freezeframe.contract.request import CaptureRequest, DiskChoice, HoldChoice
from freezeframe.contract.words import HoldKind, Policy, RunState
from freezeframe.naming import NamedGuest
from orchestrator.choices import MOST_NEAR, without_strays
from orchestrator.errors import HeldTwiceError, UnknownGuestError
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.planner import left_out, plan_hosts
from tests.unit.orchestrator.one_run import OTHER
from tests.unit.orchestrator.test_planner import CAPTURE, host, uuid_of

HOSTS = [
    host("host-a", ("a", "alpha", "running"), ("b", "beta", "shut off"), ("c", "twin", "shut off")),
    host("host-b", ("d", "gamma", "running"), ("e", "twin", "running"), ("f", "zeta", "paused")),
]
LEFT = "it is shut off; the options that name it were passed over"
OPTIONS: list[dict[str, Any]] = [
    {"guest_holds": (HoldChoice(guest="beta", kind=HoldKind.PAUSE),)},
    {"guest_holds": (HoldChoice(guest="beta", mountpoints=("/srv",)),)},
    {"skip_disks": (DiskChoice(guest="beta", target="vdb"),)},
    {"decrypt_disks": (DiskChoice(guest="beta", target="vdb"),)},
]


def asked(**request: Any) -> CaptureRequest:
    return CaptureRequest.model_validate({"capture_id": CAPTURE, **request})


def planned(hosts: list[presence.KnownHost] = HOSTS, **request: Any) -> dict[str, str]:
    """Each guest of the plan with its hold and the disks that it does without."""
    hosts_of_plan = plan_hosts(asked(**request), hosts)
    return {guest.name: " ".join((str(guest.hold), *guest.skip)) for one in hosts_of_plan for guest in one.guests}


def left(hosts: list[presence.KnownHost] = HOSTS, **request: Any) -> dict[str, str]:
    return {f"{one.guest}@{one.host}": one.reason for one in left_out(asked(**request), hosts)}


@pytest.mark.case("I5", "P6")
@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_chosen_for_a_guest_that_is_off_tonight_is_passed_over_and_told(
    option: dict[str, Any], policy: Policy
) -> None:
    """`capture --all --guest-hold legacy:pause`, every night."""
    all_guests = {"alpha": "freeze", "gamma": "freeze", "twin": "freeze"}
    assert planned(every_guest=True, policy=policy, **option) == all_guests
    assert left(every_guest=True, policy=policy, **option) == {
        "zeta@host-b": "it is paused",
        "beta@host-a": LEFT,
    }


@pytest.mark.parametrize("word", ["beta@host-a", uuid_of("b"), uuid_of("b").upper()])
def test_it_is_known_by_any_of_its_words(word: str) -> None:
    option: dict[str, Any] = {"guest_holds": (HoldChoice(guest=word, kind=HoldKind.PAUSE),)}
    assert set(planned(every_guest=True, **option)) == {"alpha", "gamma", "twin"}
    assert left(every_guest=True, **option)["beta@host-a"] == LEFT


def test_a_guest_that_no_option_names_is_not_told_for_being_off() -> None:
    assert left(every_guest=True) == {"zeta@host-b": "it is paused"}


def test_a_name_means_the_guest_that_runs_where_another_of_that_name_is_off() -> None:
    option: dict[str, Any] = {"guest_holds": (HoldChoice(guest="twin", kind=HoldKind.PAUSE),)}
    assert planned(every_guest=True, **option)["twin"] == "pause"
    assert "twin@host-a" not in left(every_guest=True, **option)


def test_a_guest_that_has_moved_is_meant_at_its_old_host_too() -> None:
    """Its definition stays there, and the option was written when it ran there."""
    hosts = [host("host-a", ("a", "alpha", "shut off")), host("host-b", ("a", "alpha", "running"))]
    option: dict[str, Any] = {"guest_holds": (HoldChoice(guest="alpha@host-a", kind=HoldKind.PAUSE),)}
    assert planned(hosts, every_guest=True, **option) == {"alpha": "pause"}
    assert left(hosts, every_guest=True, **option) == {}


@pytest.mark.case("I5")
@pytest.mark.parametrize("policy", list(Policy))
def test_a_guest_that_nobody_knows_is_refused_and_a_near_one_offered(policy: Policy) -> None:
    """A slip of the pen would freeze the guest that must be paused."""
    option: dict[str, Any] = {"guest_holds": (HoldChoice(guest="betta", kind=HoldKind.PAUSE),)}
    with pytest.raises(UnknownGuestError, match=r"There is no guest betta\.") as caught:
        planned(every_guest=True, policy=policy, **option)
    assert "Did you mean beta?" in caught.value.hint


@pytest.mark.parametrize("option", OPTIONS)
def test_among_guests_by_name_an_option_for_another_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UnknownGuestError, match=r"names guest beta, which is not among the guests to capture"):
        planned(guests=("alpha",), **option)


@pytest.mark.case("I6")
def test_an_option_for_the_other_of_two_guests_with_one_uuid_is_refused() -> None:
    twice = [host("host-a", ("a", "alpha", "running")), host("host-b", ("a", "alpha", "running"))]
    with pytest.raises(UnknownGuestError):
        planned(twice, guests=("alpha@host-a",), guest_holds=(HoldChoice(guest="alpha@host-b", kind=HoldKind.PAUSE),))


@pytest.mark.case("S5", "S1")
def test_an_option_for_a_guest_of_a_host_that_cannot_be_read_is_told_under_degrade(orchestrator: Orchestrator) -> None:
    """Whether it is a guest of that host or a slip of the pen is not known, so it is a fault and no refusal."""
    orchestrator.redis.set(names.host_key("host-b"), '{"v": 2, "freezeframe_version": "9"}')
    orchestrator.redis.sadd(names.HOST_IDS_KEY, "host-b")
    orchestrator.redis.set(names.alive_key("host-b"), "1")
    request = CaptureRequest(
        capture_id=OTHER,
        every_guest=True,
        policy=Policy.DEGRADE,
        guest_holds=(HoldChoice(guest="legacy", kind=HoldKind.PAUSE), HoldChoice(guest="web", kind=HoldKind.PAUSE)),
        skip_disks=(DiskChoice(guest="legacy", target="vdb"),),
        decrypt_disks=(DiskChoice(guest="older", target="vdb"),),
    )
    take_in(orchestrator, request)
    run, _ = orchestrator.runs.load(OTHER) or pytest.fail("no run")
    assert run.state is RunState.PREPARING
    unknown = ("unknown-guest", None)
    assert [(fault.code, fault.host) for fault in run.faults] == [("unread-host", "host-b"), unknown, unknown]
    assert "no guest legacy" in run.faults[1].message
    assert "no guest older" in run.faults[2].message
    assert "host-b" in run.faults[1].message
    assert run.plan is not None
    assert [str(guest.hold) for one in run.plan.hosts for guest in one.guests] == ["pause"]


def test_an_option_that_names_a_known_guest_is_no_stray() -> None:
    options = {key: value for option in OPTIONS[1:] for key, value in option.items()}
    request = asked(every_guest=True, **options)
    assert without_strays(request, HOSTS) == (request, [])


def test_a_near_name_is_looked_for_of_the_first_few_words_that_nobody_knows() -> None:
    """That compares a word with the name of every guest, and a request may have thousands of words."""
    words = [f"betx{number}" for number in range(MOST_NEAR + 2)]
    choices = tuple(HoldChoice(guest=word, kind=HoldKind.PAUSE) for word in words)
    rest, strays = without_strays(asked(every_guest=True, guest_holds=choices), HOSTS)
    assert rest.guest_holds == ()
    assert [word in stray.message for word, stray in zip(words, strays, strict=True)] == [True] * len(words)
    assert ["Did you mean beta?" in stray.hint for stray in strays] == [True] * MOST_NEAR + [False] * 2


def pasted(guest: str, letter: str, kind: str) -> str:
    """The word of an option that advice prints."""
    [word] = shlex.split(NamedGuest(guest, uuid_of(letter)).option(kind))
    return word


@pytest.mark.case("I5")
@pytest.mark.parametrize("kind", ["freeze", "freeze-pause"])
@pytest.mark.parametrize("default", list(HoldKind))
def test_the_advice_of_a_warning_works_beside_the_mount_points_it_came_from(kind: str, default: HoldKind) -> None:
    """`capture alpha --mountpoint alpha:/srv` warns with `--guest-hold UUID:freeze-pause`."""
    choices = guest_holds([pasted("alpha", "a", kind)], ["alpha:/srv", "alpha:/var"])
    assert planned(guests=("alpha",), hold=default, guest_holds=choices) == {"alpha": f"{kind} (/srv, /var)"}


@pytest.mark.case("I5")
def test_mount_points_of_one_guest_add_up_however_it_is_called() -> None:
    choices = guest_holds([], ["alpha:/srv", f"{uuid_of('a')}:/var", "alpha@host-a:/srv"])
    assert planned(guests=("alpha",), guest_holds=choices) == {"alpha": "freeze (/srv, /var)"}


def test_the_same_hold_twice_is_that_hold() -> None:
    choices = guest_holds(["alpha:pause", pasted("alpha", "a", "pause")], [])
    assert planned(guests=("alpha",), guest_holds=choices) == {"alpha": "pause"}


@pytest.mark.case("I5")
def test_holds_that_contradict_each_other_are_refused_and_each_alone_works() -> None:
    choices = guest_holds(["alpha:freeze", pasted("alpha", "a", "freeze-pause")], [])
    with pytest.raises(HeldTwiceError, match=r"alpha is given 2 holds of its own: freeze, freeze-pause\.") as caught:
        planned(guests=("alpha",), guest_holds=choices)
    words = shlex.split(caught.value.hint.rstrip("."))
    ways = [words[number + 1] for number, word in enumerate(words) if word == "--guest-hold"]
    held = [planned(guests=("alpha",), guest_holds=guest_holds([way], [])) for way in ways]
    assert held == [{"alpha": "freeze"}, {"alpha": "freeze-pause"}]


@pytest.mark.parametrize("kind", ["pause", "none"])
def test_mount_points_beside_a_hold_that_freezes_none_are_refused_with_both_ways_out(kind: str) -> None:
    choices = guest_holds([pasted("alpha", "a", kind)], ["alpha:/srv"])
    with pytest.raises(HeldTwiceError, match=rf"Mount points of guest alpha are named, and its hold, {kind}") as caught:
        planned(guests=("alpha",), guest_holds=choices)
    assert "Leave out --mountpoint" in caught.value.hint
    words = shlex.split(caught.value.hint.rstrip("."))
    instead = words[words.index("--guest-hold") + 1]
    held = planned(guests=("alpha",), guest_holds=guest_holds([instead], ["alpha:/srv"]))
    assert held == {"alpha": "freeze-pause (/srv)"}
    assert planned(guests=("alpha",), guest_holds=guest_holds([pasted("alpha", "a", kind)], [])) == {"alpha": kind}


def test_a_freeze_of_one_guest_freezes_no_mount_point_of_another() -> None:
    """The message cannot tell whether two words mean one guest; the planner can."""
    choices = (HoldChoice(guest="alpha", mountpoints=("/srv",)), HoldChoice(guest="gamma", kind=HoldKind.FREEZE))
    with pytest.raises(HeldTwiceError, match="Mount points of guest alpha"):
        planned(guests=("alpha", "gamma"), hold="pause", guest_holds=choices)


@pytest.mark.parametrize("kind", [HoldKind.PAUSE, HoldKind.NONE])
def test_one_choice_that_contradicts_itself_is_refused_as_a_message(kind: HoldKind) -> None:
    itself = HoldChoice(guest="alpha", kind=kind, mountpoints=("/srv",))
    for others in ((), (HoldChoice(guest="gamma", kind=HoldKind.FREEZE),)):
        with pytest.raises(ValidationError, match="mount points of alpha"):
            asked(guests=("alpha", "gamma"), guest_holds=(itself, *others))


def test_a_guest_is_shown_off_at_a_host_that_is_down_too() -> None:
    down = presence.KnownHost(
        HOSTS[0].entry.model_copy(
            update={
                "at": datetime(2026, 1, 1, tzinfo=UTC),
                "guests": (GuestEntry(guest_uuid=uuid_of("b"), name="beta", state="shut off"),),
            }
        ),
        alive=False,
    )
    option: dict[str, Any] = {"guest_holds": (HoldChoice(guest="beta", kind=HoldKind.PAUSE),)}
    assert set(planned([down, HOSTS[1]], every_guest=True, **option)) == {"gamma", "twin"}
