"""Nothing from outside is trusted: what does not fit is refused, and names cannot leave the places they go to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from freezeframe.contract.event import EndEvent, Event, StateEvent
from freezeframe.contract.message import CaptureId, DiskTarget, GuestUuid, HostId
from freezeframe.contract.request import CaptureRequest, DiskChoice, Receipt
from freezeframe.contract.words import RunState
from tests.unit.orders import transfer_order

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (GuestUuid, "../../../../etc/passwd"),
        (GuestUuid, GUEST.upper()),
        (GuestUuid, GUEST + "\n"),
        (CaptureId, "../" + CAPTURE[3:]),
        (CaptureId, CAPTURE.lower()),
        (CaptureId, CAPTURE + "\n"),
        (HostId, "host:a"),
        (HostId, "a/b"),
        (HostId, "-a"),
        (HostId, "host*"),
        (DiskTarget, "vda/.."),
        (DiskTarget, "vda "),
    ],
)
def test_names_that_could_leave_their_place_are_refused(kind: type[str], bad: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(bad)


def test_a_message_with_an_unknown_field_or_version_is_refused() -> None:
    good = {"capture_id": CAPTURE, "guests": ["alpha"]}
    CaptureRequest.model_validate(good)
    for bad in ({**good, "shell": "rm"}, {**good, "v": 2}):
        with pytest.raises(ValidationError):
            CaptureRequest.model_validate(bad)


@pytest.mark.parametrize(("guests", "every_guest"), [((), False), (("alpha",), True)])
def test_a_request_names_guests_or_asks_for_all(guests: tuple[str, ...], every_guest: bool) -> None:  # noqa: FBT001
    with pytest.raises(ValidationError, match="name the guests"):
        CaptureRequest(capture_id=CAPTURE, guests=guests, every_guest=every_guest)


@pytest.mark.parametrize("seconds", [0, -1, 601, float("nan"), float("inf")])
def test_a_hold_without_bounds_cannot_be_asked_for(seconds: float) -> None:
    with pytest.raises(ValidationError):
        CaptureRequest(capture_id=CAPTURE, guests=("alpha",), hold_timeout_s=seconds)


def test_a_disk_choice_is_read_from_the_right() -> None:
    assert DiskChoice.parse("alpha@host-a:vdb") == DiskChoice(guest="alpha@host-a", target="vdb")
    with pytest.raises(ValidationError):
        DiskChoice.parse("vdb")


def test_events_are_told_apart_by_their_type() -> None:
    now = datetime.now(UTC)
    state = StateEvent(capture_id=CAPTURE, at=now, state=RunState.HOLDING)
    receipt = Receipt(capture_id=CAPTURE, state=RunState.DONE, asked_at=now)
    end = EndEvent(capture_id=CAPTURE, at=now, receipt=receipt)
    for event in (state, end):
        assert Event.model_validate_json(event.model_dump_json()).root == event


def test_the_part_of_a_transfer_is_its_guest_and_disk() -> None:
    order = transfer_order(guest_uuid=GUEST)
    assert order.part == f"{GUEST}.vda"
