"""An undo that is still at work on a guest, as one that hangs, costs that guest its hold and no other (invariant 11)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Consistency
from tests.unit.workers.hold_site import CAPTURE, HOSTS, Site, proof_of, results
from workers.hypervisor.fake_held_guest import HeldFake
from workers.journal import ClaimChange, FreedChange, GuestJournal
from workers.steps import held_guest
from workers.steps import hold as step
from workers.steps.undo import undo_guest, undo_guests
from workers.steps.window import hold_window

pytestmark = pytest.mark.case("G4")
HERE, ELSEWHERE = HOSTS


def journal_of(site: Site, fake: HeldFake, host_id: str = HERE) -> GuestJournal:
    return site.hosts[host_id].journal.of(CAPTURE).guest(fake.uuid)


def told(answer: HoldResult) -> list[tuple[str, str, str | None]]:
    return [(one.guest_uuid, one.fault.code, one.fault.guest) for one in answer.guest_faults]


def degraded(site: Site) -> tuple[HoldResult, HoldResult]:
    here, elsewhere = results(site.hold(all_or_nothing=False))
    assert consistency(proof_of([here, elsewhere])) is Consistency.GROUP
    assert site.held_ones() == []
    return here, elsewhere


def test_a_guest_that_an_undo_is_at_work_on_is_left_out_and_its_neighbours_are_held(site: Site) -> None:
    lost, kept = site.guests[HERE]
    with journal_of(site, lost).lock():
        here, elsewhere = degraded(site)
    assert told(here) == [(lost.uuid, "guest-at-work", lost.label)]
    assert elsewhere.guest_faults == ()
    assert (lost.log, lost.has_backup, kept.has_backup) == ([], False, True)
    assert site.guards[HERE].armed == [kept.uuid]
    assert lost.uuid not in site.journalled(HERE)[0]
    assert site.hosts[HERE].claims.holder(lost.uuid) == CAPTURE


def test_a_host_all_of_whose_guests_have_an_undo_at_work_meets_the_others_without_a_guest(site: Site) -> None:
    with ExitStack() as locks:
        for fake in site.guests[HERE]:
            locks.enter_context(journal_of(site, fake).lock())
        here, elsewhere = degraded(site)
    assert told(here) == [(fake.uuid, "guest-at-work", fake.label) for fake in site.guests[HERE]]
    assert here.proof is not None
    assert here.proof.guests == ()
    assert [fake.has_backup for fake in site.guests[ELSEWHERE]] == [True, True]
    assert elsewhere.guest_faults == ()


def test_under_all_it_ends_the_capture_before_anybody_is_held(site: Site) -> None:
    with journal_of(site, site.guests[HERE][1]).lock():
        answers = site.hold()
    assert getattr(answers[HERE], "code", None) == "guest-at-work"
    assert getattr(answers[HERE], "guest", None) == site.guests[HERE][1].label
    assert isinstance(answers[ELSEWHERE], step.MusterError)
    assert [fake.log for fake in site.fakes.values()] == [[], [], [], []]


def unlockable(site: Site, fake: HeldFake) -> None:
    journal = journal_of(site, fake)
    with journal.lock():
        pass
    lock = journal._directory / ".lock"
    lock.unlink()
    lock.mkdir()


def test_a_guest_whose_lock_cannot_be_opened_is_left_out_and_its_neighbours_are_held(site: Site) -> None:
    lost, kept = site.guests[HERE]
    unlockable(site, lost)
    here, _ = degraded(site)
    assert told(here) == [(lost.uuid, "guest-trouble", lost.label)]
    assert ".lock" in here.guest_faults[0].fault.message
    assert (lost.log, kept.has_backup) == ([], True)


def test_under_all_a_lock_that_cannot_be_opened_is_told_with_its_guest(site: Site) -> None:
    unlockable(site, site.guests[HERE][0])
    answers = site.hold()
    assert getattr(answers[HERE], "code", None) == "guest-trouble"
    assert getattr(answers[HERE], "guest", None) == site.guests[HERE][0].label
    assert isinstance(answers[ELSEWHERE], step.MusterError)


@pytest.mark.parametrize("moment", ["ready", "hold_window", "look_again", "told_uses"])
def test_the_guests_of_a_hold_are_locked_until_it_is_over(
    site: Site, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Also beside one that is left out: neither a release nor recovery may work on them meanwhile."""
    lost, kept = site.guests[HERE]
    real: Callable[..., Any] = getattr(step, moment)
    undone: list[list[str]] = []

    def looks(*arguments: Any, **words: Any) -> Any:
        with pytest.raises(BlockingIOError), journal_of(site, kept).lock():
            raise AssertionError("the guest was not locked")
        undone.append(undo_guests(site.hosts[HERE], site.hosts[HERE].journal.of(CAPTURE), sealed=()))
        return real(*arguments, **words)

    monkeypatch.setattr(step, moment, looks)
    order = site.order(HERE, members=1, all_or_nothing=False)
    with journal_of(site, lost).lock():
        here = step.hold(site.hosts[HERE], order)
    assert told(here) == [(lost.uuid, "guest-at-work", lost.label)]
    assert [len(one) for one in undone] == [2]  # each of the two is told as at work
    assert kept.has_backup
    with journal_of(site, kept).lock():
        pass


def test_the_lock_of_a_guest_that_is_left_out_for_another_reason_is_kept_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = site.guests[HERE][0]
    site.hosts[HERE].claims.drop(lost.uuid, CAPTURE)
    real = hold_window

    def looks(*arguments: Any) -> Any:
        with pytest.raises(BlockingIOError), journal_of(site, lost).lock():
            raise AssertionError("the guest was not locked")
        return real(*arguments)

    monkeypatch.setattr(step, "hold_window", looks)
    here = step.hold(site.hosts[HERE], site.order(HERE, members=1, all_or_nothing=False))
    assert told(here) == [(lost.uuid, "not-prepared", lost.label)]


def test_a_guest_whose_undo_ends_while_the_others_are_held_is_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, kept = site.guests[HERE]
    undo, real = ExitStack(), held_guest.ready
    undo.enter_context(journal_of(site, lost).lock())

    def ready(*arguments: Any) -> Any:
        undo.close()
        return real(*arguments)

    monkeypatch.setattr(step, "ready", ready)
    here = step.hold(site.hosts[HERE], site.order(HERE, members=1, all_or_nothing=False))
    assert told(here) == [(lost.uuid, "guest-at-work", lost.label)]
    assert (lost.log, kept.has_backup) == ([], True)


def test_a_guest_that_was_undone_before_its_hold_is_not_held_without_its_scratch_files(site: Site) -> None:
    """Its claim stays while the repository does not say whether the capture was sealed."""
    lost, kept = site.guests[HERE]
    host = site.hosts[HERE]
    assert undo_guest(host, host.journal.of(CAPTURE), lost.uuid, sealed=None) == []
    assert host.claims.holder(lost.uuid) == CAPTURE
    here, _ = degraded(site)
    assert told(here) == [(lost.uuid, "not-prepared", lost.label)]
    assert (lost.log, kept.has_backup) == ([], True)


def test_a_guest_that_was_prepared_anew_after_it_was_undone_is_held(site: Site) -> None:
    journal = journal_of(site, site.guests[HERE][0])
    journal.record(FreedChange(guest_uuid=journal.guest_uuid))
    journal.record(ClaimChange(guest_uuid=journal.guest_uuid))
    here, _ = degraded(site)
    assert here.guest_faults == ()
