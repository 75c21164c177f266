"""Guests of one name on several hosts: what is told of one explains nothing of another (invariant 9)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.plan import GuestPlan, HostPlan, Plan
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import HoldKind, Method, Policy, RunState
from orchestrator.run import Run
from orchestrator.seal_state import SealState, settled

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
#: One guest on each of three hosts; the first two have one name.
A, B, C = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "abc")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def fault(guest: str | None, host: str | None, code: str = "no-agent") -> Fault:
    return Fault(code=code, message="It does not go on.", guest=guest, host=host)


def after(sealed: tuple[str, ...], *, met: tuple[Fault, ...] = (), unsealed: tuple[Fault, ...] = ()) -> Run:
    """Return a run that was given up, and whose capture turns out to be sealed with these guests."""
    places = (("host-a", A, "web"), ("host-b", B, "web"), ("host-c", C, "db"))
    hosts = tuple(
        HostPlan(host_id=host, guests=(GuestPlan(guest_uuid=uuid, name=name, hold=GuestHold(kind=HoldKind.FREEZE)),))
        for host, uuid, name in places
    )
    plan = Plan(
        capture_id=CAPTURE, epoch=1, method=Method.BACKUP_PULL, chunk_bytes=1 << 20, repository_id="r", hosts=hosts
    )
    run = Run(
        capture_id=CAPTURE,
        request=CaptureRequest(capture_id=CAPTURE, guests=(A, B, C), policy=Policy.DEGRADE),
        asked_at=NOW,
        state=RunState.RELEASING,
        plan=plan,
        entered_at=NOW,
        due_at=NOW,
        sealed=None,
        faults=met,
        unsealed_faults=unsealed,
    )
    return settled(run, SealState(sealed=True, guests=sealed))


def told(run: Run) -> list[tuple[str | None, str | None, str]]:
    return [(one.guest, one.host, one.code) for one in run.faults]


LOST_B = ("web", "host-b", "not-in-capture")


@pytest.mark.parametrize("when", ["met", "unsealed"])
@pytest.mark.parametrize("word", ["web", A])
def test_a_missing_guest_is_not_explained_by_the_fault_of_another_of_its_name(when: str, word: str) -> None:
    of_other = fault(word, "host-a")
    run = after((A, C), met=(of_other,) if when == "met" else (), unsealed=(of_other,) if when == "unsealed" else ())
    assert told(run) == [LOST_B]
    assert "Guest web on host host-b is not in the capture" in run.faults[0].message
    assert [of_other.message in warning for warning in run.warnings] == [True]  # of the guest that was captured


@pytest.mark.parametrize("word", ["web", B, None])
def test_its_own_fault_or_its_host_s_explains_it(word: str | None) -> None:
    run = after((A, C), unsealed=(fault(word, "host-b"),))
    assert told(run) == [(word, "host-b", "no-agent")]
    assert not run.warnings


def test_a_fault_that_may_be_of_either_is_kept_and_explains_neither() -> None:
    run = after((A, C), unsealed=(fault("web", None),))
    assert told(run) == [("web", None, "no-agent"), LOST_B]


def test_a_fault_of_the_host_that_the_guest_has_left_explains_it_where_no_other_has_its_name() -> None:
    run = after((A, B), met=(fault("db", "host-old"),))
    assert told(run) == [("db", "host-old", "no-agent")]


def test_two_that_are_missing_are_both_explained() -> None:
    assert told(after((C,), met=(fault("web", "host-a"),))) == [("web", "host-a", "no-agent"), LOST_B]
    both = fault("web", "host-a"), fault("web", "host-b")
    assert told(after((C,), met=both)) == [("web", "host-a", "no-agent"), ("web", "host-b", "no-agent")]


def test_a_fault_of_a_captured_guest_is_kept_from_the_others() -> None:
    run = after((A, B, C), met=(fault("web", "host-a"),), unsealed=(fault("db", "host-c"),))
    assert told(run) == []
    assert len(run.warnings) == 2
