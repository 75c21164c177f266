"""How long all transfers of a capture may take (D11 of the orchestrator's review): large hosts get more than a day."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from freezeframe.contract.result import PrepareResult
from freezeframe.contract.words import RunState
from freezeframe.settings import DAY_S, SEALED_WITHIN_S, OrchestratorSettings
from orchestrator import decision
from orchestrator.run import Run
from orchestrator.transfers import SLOWEST_BYTES_S, time_for
from tests.scale.capture import NOW, ManyGuests

MANY = ManyGuests(3, 2, 2)
SETTINGS = OrchestratorSettings()
TIB = 1 << 40
DAY = timedelta(days=1)


def sized(*tib: float) -> list[PrepareResult]:
    """Return what hosts have prepared, with so much to read on each."""
    results = []
    for result, size in zip(MANY.prepared, tib, strict=False):
        each = round(size * TIB / (MANY.guests_a_host * MANY.disks))
        guests = tuple(
            guest.model_copy(
                update={"disks": tuple(disk.model_copy(update={"size_bytes": each}) for disk in guest.disks)}
            )
            for guest in result.guests
        )
        results.append(result.model_copy(update={"guests": guests}))
    return results


def lone_disk(result: PrepareResult, tib: float) -> PrepareResult:
    """Return a host's answer with one guest of one disk."""
    guest = result.guests[0]
    disk = guest.disks[0].model_copy(update={"size_bytes": round(tib * TIB)})
    return result.model_copy(update={"guests": (guest.model_copy(update={"disks": (disk,)}),)})


def run(**request: Any) -> Run:
    made = MANY.run(RunState.TRANSFERRING)
    return made.model_copy(update={"request": made.request.model_copy(update=request)})


@pytest.mark.parametrize("tib", [0.0, 0.1, 5.0])
def test_small_hosts_have_what_the_setting_says(tib: float) -> None:
    assert time_for(run(), sized(tib, tib, tib), SETTINGS) == DAY


def test_the_host_with_the_most_to_read_counts() -> None:
    assert time_for(run(), sized(1, 20, 3), SETTINGS) == timedelta(seconds=20 * TIB / SLOWEST_BYTES_S)
    assert time_for(run(), sized(1, 20, 3), SETTINGS) > 3 * DAY  # the review's host needed 29 hours


def test_a_limit_that_was_asked_for_makes_it_slower() -> None:
    assert time_for(run(limit_bytes_s=8 << 20), sized(4, 1, 1), SETTINGS) == timedelta(seconds=4 * TIB / (16 << 20))
    # a disk alone cannot use the half that another one would
    one_disk = [*sized(0.001, 0.001), lone_disk(MANY.prepared[2], 2)]
    assert time_for(run(limit_bytes_s=10 << 20), one_disk, SETTINGS) == timedelta(seconds=2 * TIB / (10 << 20))
    assert time_for(run(limit_bytes_s=1 << 40), sized(20, 1, 1), SETTINGS) > 3 * DAY


@pytest.mark.parametrize("tib", [100, 1e6])
def test_no_transfer_outlives_the_session_of_its_capture(tib: float) -> None:
    found = time_for(run(), sized(tib, 1, 1), SETTINGS)
    assert found == timedelta(seconds=SETTINGS.longest_transfer_s)
    assert found.total_seconds() + SETTINGS.seal_timeout_s + 3 * SETTINGS.prepare_timeout_s < SEALED_WITHIN_S


def test_settings_that_just_fit_into_a_session_leave_what_they_say() -> None:
    most = OrchestratorSettings(transfer_timeout_s=6 * DAY_S, seal_timeout_s=DAY_S / 2)
    assert time_for(run(), sized(100, 1, 1), most).total_seconds() >= 6 * DAY_S


def test_guests_that_are_not_kept_have_nothing_to_read() -> None:
    made = run().model_copy(update={"kept": MANY.every_uuid[2:]})
    assert time_for(made, sized(100, 1, 1), SETTINGS) == DAY


def test_the_run_is_dated_by_it() -> None:
    following = decision.after_hold(MANY.run(RunState.HOLDING), MANY.held, NOW, SETTINGS, sized(20, 1, 1))
    assert following is not None
    assert following.state is RunState.TRANSFERRING
    assert following.due_at == NOW + timedelta(seconds=20 * TIB / SLOWEST_BYTES_S)
