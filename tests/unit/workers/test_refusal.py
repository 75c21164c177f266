"""Refusals in prepare: the advice of each works, and no refused guest hides what another one shares."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import LONGEST_HOLD_S
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedDisk, PreparedGuest
from freezeframe.contract.words import CaptureKind
from freezeframe.naming import NamedGuest
from workers.fitness import DiskUse
from workers.host import Host
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.freeze_failure import SlowFreezeError
from workers.journal import ClaimChange
from workers.pace import TOO_SLOW_KEPT_S, TooSlow, is_in_vain
from workers.refusal import SlowGuestError
from workers.steps import refusing
from workers.steps.refusing import refuse_shared, uses_here

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
REFUSED = Fault(code="guest-busy", message="It is busy.")


@pytest.mark.case("G3")
@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
@pytest.mark.parametrize("ms", [1.0, 999.9, 1000.0, 4500.0, 5999.9, 6000.0, 6001.0, 7003.2, 120_000.0])
def test_a_guest_that_was_too_slow_is_tried_again_with_the_time_out_that_is_advised(
    ms: float, *, everyone: bool
) -> None:
    at = datetime(2026, 3, 1, 23, 30, tzinfo=UTC).timestamp()
    slow = TooSlow(ms, at)
    guest = NamedGuest("web 1", "00000000-0000-4000-8000-00000000000a")
    error = SlowGuestError(guest, slow, all_or_nothing=everyone)
    found = re.search(r"--hold-timeout (\d+)", error.hint)
    assert found is not None
    assert not is_in_vain(slow, int(found[1]), all_or_nothing=everyone)
    if int(found[1]) > 1:
        assert is_in_vain(slow, int(found[1]) - 1, all_or_nothing=everyone)  # and with no longer one than it needs
    assert "--guest-hold 00000000-0000-4000-8000-00000000000a:pause" in error.hint
    assert f"{datetime.fromtimestamp(at + TOO_SLOW_KEPT_S, UTC):%Y-%m-%d}" in error.hint
    assert "at 2026-03-01 23:30 UTC" in error.message


@pytest.mark.case("G3")
@pytest.mark.parametrize(
    ("ms", "everyone", "advised"),
    [
        (449_999.0, True, 600),
        (450_000.0, True, None),
        (601_000.0, True, None),
        (336_999.0, False, 600),
        (337_000.0, False, None),
    ],
)
def test_no_time_out_is_advised_that_a_request_may_not_have(ms: float, advised: int | None, *, everyone: bool) -> None:
    guest = NamedGuest("web", "00000000-0000-4000-8000-00000000000a")
    slow = TooSlow(ms, 0.0)
    hint = SlowGuestError(guest, slow, all_or_nothing=everyone).hint
    assert "--guest-hold 00000000-0000-4000-8000-00000000000a:pause" in hint
    found = re.search(r"--hold-timeout (\d+)", hint)
    assert (int(found[1]) if found else None) == advised
    assert is_in_vain(slow, LONGEST_HOLD_S, all_or_nothing=everyone) is (advised is None)
    if advised is not None:
        CaptureRequest(capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA", guests=("web",), hold_timeout_s=advised)


@pytest.mark.parametrize(("seconds", "longer"), [(7.5, True), (449.0, True), (450.0, False), (600.0, False)])
def test_a_freeze_that_had_all_the_time_there_is_is_not_advised_to_be_given_more(
    seconds: float, *, longer: bool
) -> None:
    hint = SlowFreezeError(NamedGuest("web", "00000000-0000-4000-8000-00000000000a"), seconds).hint
    assert ("--hold-timeout" in hint) is longer
    assert "apture it with --guest-hold 00000000-0000-4000-8000-00000000000a:pause" in hint


def prepared(uuid: str, name: str, *, fault: Fault | None = None) -> PreparedGuest:
    disk = PreparedDisk(target="vda", source="/shared", source_format="raw", size_bytes=1, kind=CaptureKind.FULL)
    return PreparedGuest(guest_uuid=uuid, name=name, disks=() if fault else (disk,), fault=fault)


@pytest.mark.case("P2")
def test_a_guest_that_shares_a_disk_is_refused_although_another_guest_was_refused_before(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shared(guest_uuid: str, target: str, _uses: list[DiskUse]) -> str | None:
        assert (guest_uuid, target) == (BETA, "vda")
        return "another guest writes to it" if _uses else None

    uses = [DiskUse(BETA, "beta", "vda", frozenset({"x"}), frozenset({"x"}))]
    monkeypatch.setattr("workers.fitness.shared_reason", shared)
    host.claims.take(BETA, CAPTURE)
    journal = host.journal.of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=BETA))
    guests = [prepared(ALPHA, "alpha", fault=REFUSED), prepared(BETA, "beta")]
    first, second = refuse_shared(host, journal, guests, uses)
    assert first.fault == REFUSED
    assert second.fault is not None
    assert "another guest writes to it" in second.fault.message
    assert host.claims.holder(BETA) is None


def test_where_all_are_refused_a_libvirtd_that_is_away_is_not_the_whole_host_s_fault(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the reason of each refusal already."""

    def away(_: object) -> list[DiskUse]:
        raise HypervisorError("libvirtd is away.")

    monkeypatch.setattr(refusing, "disk_uses", away)
    refused = [prepared(ALPHA, "alpha", fault=REFUSED), prepared(BETA, "beta", fault=REFUSED)]
    assert uses_here(host, refused) == []
    with pytest.raises(HypervisorError):
        uses_here(host, [*refused, prepared(BETA, "beta")])


@pytest.mark.case("P2")
def test_what_refused_guests_use_is_told_all_the_same(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run on, and may write to a disk of another host's guest."""
    uses = [DiskUse(BETA, "beta", "vda", frozenset({"x"}), frozenset({"x"}))]
    monkeypatch.setattr(refusing, "disk_uses", lambda _: uses)
    assert uses_here(host, [prepared(BETA, "beta", fault=REFUSED)]) == uses
