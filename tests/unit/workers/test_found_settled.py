"""A guard that was down when guests were let go leaves those alone that are settled: others may hold them by now."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freezeframe.contract.words import HoldKind
from tests.unit.workers.guard_site import CAPTURE, NOBODY, OTHER, GuardInThread, paused, running, until
from workers import durable
from workers.guard.table import SETTLE_S
from workers.journal import ClaimChange, HoldChange, LetGoChange

pytestmark = pytest.mark.case("P4", "S4")


def journalled(guard: GuardInThread, *, settled: bool, capture_id: str = CAPTURE) -> None:
    journal = guard.journal.of(capture_id)
    journal.record(HoldChange(guest_uuid=guard.domain.uuid, hold=HoldKind.PAUSE))
    journal.record(LetGoChange(guest_uuid=guard.domain.uuid, settled=settled))


@pytest.mark.parametrize("deadline_s", [60.0, -3600.0], ids=["at once", "an hour later"])
def test_a_guest_that_its_hold_has_settled_stays_as_others_hold_it(guard: GuardInThread, deadline_s: float) -> None:
    journalled(guard, settled=True)
    guard.store(paused(guard.domain.uuid), deadline_s=deadline_s)
    guard.domain.pause()  # by an operator
    guard.start()
    assert guard.files.all() == []
    guard.forward(SETTLE_S + 60)
    assert not running(guard)
    guard.domain.resume()


def test_after_a_restart_of_the_host_too(guard: GuardInThread) -> None:
    journalled(guard, settled=True)
    guard.store(paused(guard.domain.uuid), boot=NOBODY)
    guard.domain.pause()
    guard.start()
    assert guard.files.all() == []
    assert not running(guard)
    guard.domain.resume()


def not_settled(guard: GuardInThread) -> None:
    """As an undo writes it: a call of the worker that died may still be pending."""
    journalled(guard, settled=False)


def of_another_capture(guard: GuardInThread) -> None:
    journalled(guard, settled=True, capture_id=OTHER)


def of_another_guest(guard: GuardInThread) -> None:
    guard.journal.of(CAPTURE).record(LetGoChange(guest_uuid=NOBODY, settled=True))


def of_no_hold(guard: GuardInThread) -> None:
    guard.journal.of(CAPTURE).record(ClaimChange(guest_uuid=guard.domain.uuid))


def unreadable(guard: GuardInThread) -> None:
    """What stands beside a line that is not understood is not relied upon."""
    journalled(guard, settled=True)
    (path,) = guard.leases.parent.glob(f"captures/{CAPTURE}/*/changes")
    durable.append_line(path, '{"v":3,"change":"held-again"}')


def damaged_lease(guard: GuardInThread) -> None:
    journalled(guard, settled=True)
    guard.store(paused(guard.domain.uuid))
    (path,) = guard.leases.glob("*.json")
    path.write_text(path.read_text().replace('"deadline_s":', '"deadline_s":"'))


@pytest.mark.parametrize(
    "left", [not_settled, of_another_capture, of_another_guest, of_no_hold, unreadable, damaged_lease]
)
def test_any_other_guest_is_let_go(guard: GuardInThread, left: Callable[[GuardInThread], None]) -> None:
    guard.store(paused(guard.domain.uuid))
    left(guard)
    guard.domain.pause()
    guard.start()
    until(lambda: running(guard))
    guard.files.remove(CAPTURE)


def test_the_other_guests_of_a_lease_stay_in_it(guard: GuardInThread) -> None:
    guard.journal.of(CAPTURE).record(LetGoChange(guest_uuid=NOBODY, settled=True))
    guard.store(paused(NOBODY, guard.domain.uuid))
    guard.domain.pause()
    guard.start()
    (lease,) = guard.files.all()
    assert [one.guest_uuid for one in lease.guests] == [guard.domain.uuid]
    until(lambda: running(guard))
    until(guard.retired)
