"""A guest that another capture has is taken over in one case alone: that has ended, and only a thaw is left of it."""

from __future__ import annotations

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.words import HoldKind
from tests.unit.told_run import tell_run
from workers.claims import GuestClaimedError
from workers.host import Host
from workers.journal import ClaimChange, HoldChange, LetGoChange, ThawPendingChange
from workers.steps.claimed import claim

HOLDER, OTHER = "01KAAAAAAAAAAAAAAAAAAAAAAA", "01KAAAAAAAAAAAAAAAAAAAAAAB"
GUEST = "00000000-0000-4000-8000-00000000000a"
PLAN = GuestPlan(guest_uuid=GUEST, name="web", hold=GuestHold(kind=HoldKind.PAUSE))


@pytest.fixture
def host(host: Host) -> Host:
    """One on which HOLDER has the guest, and has undone all but a thaw."""
    host.claims.take(GUEST, HOLDER)
    journal = host.journal.of(HOLDER)
    for change in (
        ClaimChange(guest_uuid=GUEST),
        HoldChange(guest_uuid=GUEST, hold=HoldKind.FREEZE),
        ThawPendingChange(guest_uuid=GUEST),
    ):
        journal.record(change)
    return host


def run_is(host: Host, state: str) -> None:
    tell_run(host.redis, HOLDER, state)


@pytest.mark.parametrize("state", [None, "done", "failed"])
def test_a_guest_of_which_only_a_thaw_is_left_may_be_captured(host: Host, state: str | None) -> None:
    if state:
        run_is(host, state)
    claim(host, PLAN, OTHER)
    assert host.claims.holder(GUEST) == OTHER


def refused(host: Host) -> str:
    with pytest.raises(GuestClaimedError) as raised:
        claim(host, PLAN, OTHER)
    assert host.claims.holder(GUEST) == HOLDER
    return raised.value.message


@pytest.mark.parametrize("state", ["preparing", "holding", "transferring", "releasing"])
def test_a_guest_of_a_capture_that_goes_on_is_not_taken_over_whatever_its_journal_says(host: Host, state: str) -> None:
    """It may be read at this moment; a second backup would end the first."""
    run_is(host, state)
    assert f"which is {state}" in refused(host)


@pytest.mark.case("S5")
def test_a_guest_whose_journal_is_not_understood_is_not_taken_over(host: Host) -> None:
    """What stands in the line that cannot be read may be left to undo."""
    changes = host.settings.state_dir / "captures" / HOLDER / GUEST / "changes"
    changes.write_text(f'{{"v":2,"change":"melt","guest_uuid":"{GUEST}"}}\n' + changes.read_text())
    assert "which has ended" in refused(host)


def test_a_guest_that_was_thawed_since_is_left_to_recovery_which_drops_its_claim(host: Host) -> None:
    host.journal.of(HOLDER).record(LetGoChange(guest_uuid=GUEST))
    assert "which has ended" in refused(host)
