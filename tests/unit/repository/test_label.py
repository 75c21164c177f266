"""A label is what the proof gives, for the capture and for each of its guests (invariant 2: all, or labelled)."""

from __future__ import annotations

from typing import Any

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import Arrival, GuestProof, HostProof, Proof
from freezeframe.contract.words import Consistency, HoldKind
from freezeframe.repository import Manifest
from freezeframe.repository.label import mislabels

from .samples import CHUNK, GUEST, disk_capture, manifest_of

HOST = "host-a.example"


def labelled(label: Consistency, guest_label: Consistency, **changes: Any) -> Manifest:
    """A capture of one guest; with a release its proof gives `group`."""
    guest = GuestProof(
        guest_uuid=GUEST,
        hold=GuestHold(kind=HoldKind.PAUSE),
        hold_start_ns=1,
        held_ns=2,
        begun_ns=3,
        thaw_start_ns=6,
        thawed_ns=7,
    )
    host = HostProof(host_id=HOST, boot_id="b", report_ns=4, woken_ns=5, guests=(guest,))
    usual: dict[str, Any] = {
        "epoch": 1,
        "members": (HOST,),
        "arrivals": (Arrival(host_id=HOST, redis_us=1),),
        "release_us": 1,
        "hosts": (host,),
    }
    manifest = manifest_of(1, disk_capture("ab" * 32, 2 * CHUNK))
    guests = tuple(one.model_copy(update={"consistency": guest_label, "host_id": HOST}) for one in manifest.guests)
    proof = Proof.model_validate(usual | changes)
    return manifest.model_copy(update={"consistency": label, "guests": guests, "proof": proof})


@pytest.mark.parametrize("label", Consistency)
@pytest.mark.parametrize("guest_label", Consistency)
@pytest.mark.parametrize("proven", [Consistency.GROUP, Consistency.GUEST])
def test_any_other_label_than_the_proof_gives_is_named(
    label: Consistency, guest_label: Consistency, proven: Consistency
) -> None:
    found = mislabels(labelled(label, guest_label, release_us=1 if proven is Consistency.GROUP else None))
    assert any("the capture is labelled" in one for one in found) == (label is not proven)
    assert any("guest" in one.split()[0] for one in found) == (guest_label is not proven)


def test_a_guest_of_which_the_proof_says_nothing_is_named() -> None:
    other = HostProof(host_id=HOST, boot_id="b", report_ns=4, woken_ns=5, guests=())
    found = mislabels(labelled(Consistency.GROUP, Consistency.GROUP, hosts=(other,)))
    assert ["the proof says nothing of it" in one for one in found] == [True]


def test_a_guest_that_was_held_on_another_host_is_named() -> None:
    manifest = labelled(Consistency.GROUP, Consistency.GROUP)
    moved = tuple(guest.model_copy(update={"host_id": "host-b"}) for guest in manifest.guests)
    assert len(mislabels(manifest.model_copy(update={"guests": moved}))) == 1


def test_without_a_proof_there_is_nothing_to_compare() -> None:
    manifest = labelled(Consistency.GROUP, Consistency.GROUP)
    assert mislabels(manifest.model_copy(update={"proof": None})) == []
