"""A libvirt that takes calls and answers none keeps no prepare: whatever is asked after its guests is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import structlog

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import PreparedDisk, PreparedGuest
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import Repository
from tests.unit.workers.guard_site import until
from tests.unit.workers.test_prepare import to_prepare
from workers.fitness import DiskUse
from workers.host import Host
from workers.host_calls import LibvirtHangsError
from workers.identity.uses import PATIENCE_S
from workers.journal import ClaimChange
from workers.steps import prepare, refusing
from workers.steps.prepare_guests import ANSWER_S
from workers.steps.refusing import LEAST_USES_S, USES_S, patience_for_uses_s, refuse_shared, uses_here
from workers.steps.undo import undo_guest

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
REFUSED = Fault(code="guest-busy", message="It is busy.")


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """A call waits until the event is set, as the end of the test does."""
    event = threading.Event()
    yield event
    event.set()


def made(uuid: str, fault: Fault | None = None) -> PreparedGuest:
    disk = PreparedDisk(target="vda", source="/shared", source_format="raw", size_bytes=1, kind=CaptureKind.FULL)
    return PreparedGuest(guest_uuid=uuid, name=uuid[-1], disks=() if fault else (disk,), fault=fault)


def hangs_at_all_guests(monkeypatch: pytest.MonkeyPatch, hang: threading.Event) -> None:
    def uses(_: object) -> list[DiskUse]:
        hang.wait()
        return []

    monkeypatch.setattr(refusing, "disk_uses", uses)


@pytest.mark.case("P2")
def test_a_look_at_all_guests_that_hangs_is_the_host_s_fault_while_a_guest_is_ready(
    host: Host, monkeypatch: pytest.MonkeyPatch, hang: threading.Event
) -> None:
    hangs_at_all_guests(monkeypatch, hang)
    with pytest.raises(LibvirtHangsError, match=r"host-a has not answered within 0\.1 s: the storage of all guests"):
        uses_here(host, [made(ALPHA, REFUSED), made(BETA)], 0.1)
    assert uses_here(host, [made(ALPHA, REFUSED)], 0.1) == []  # the same call is refused at once, and costs no thread
    assert host.calls.threads == 1


def test_prepare_ends_while_the_look_at_all_guests_hangs(
    host: Host, monkeypatch: pytest.MonkeyPatch, hang: threading.Event
) -> None:
    repository = Repository.init(host.repository)
    hangs_at_all_guests(monkeypatch, hang)
    monkeypatch.setattr(prepare, "GuardLine", lambda _: nullcontext(SimpleNamespace(ping=lambda: None)))
    monkeypatch.setattr(prepare, "_prepare_guest", lambda _host, _order, _journal, plan, **_: made(plan.guest_uuid))
    monkeypatch.setattr(refusing, "USES_S", 0.1)
    monkeypatch.setattr(refusing, "LEAST_USES_S", 0.1)
    with pytest.raises(LibvirtHangsError):
        prepare.prepare(host, to_prepare(ALPHA, repository_id=str(repository.config.id)))


@pytest.mark.case("P2")
def test_a_guest_whose_undo_hangs_is_refused_all_the_same_and_undone_when_libvirt_answers(
    host: Host, monkeypatch: pytest.MonkeyPatch, hang: threading.Event
) -> None:
    monkeypatch.setattr(refusing, "UNDO_S", 0.1)
    monkeypatch.setattr("workers.fitness.shared_reason", lambda *_: "another guest writes to it")
    real = undo_guest

    def undo(host: Host, journal: object, guest_uuid: str, *, sealed: bool | None) -> list[str]:
        if guest_uuid == ALPHA:
            hang.wait()
        return real(host, journal, guest_uuid, sealed=sealed)  # type: ignore[arg-type]

    monkeypatch.setattr(refusing, "undo_guest", undo)
    journal = host.journal.of(CAPTURE)
    for uuid in (ALPHA, BETA):
        host.claims.take(uuid, CAPTURE)
        journal.record(ClaimChange(guest_uuid=uuid))
    with structlog.testing.capture_logs() as logs:
        guests = refuse_shared(host, journal, [made(ALPHA), made(BETA)], [])
    assert [one["guest"] for one in logs if one["event"] == "a refused guest is not undone yet"] == ["a"]
    assert [guest.fault.code for guest in guests if guest.fault is not None] == ["disk-not-capturable"] * 2
    assert [guest.disks for guest in guests] == [(), ()]
    assert (host.claims.holder(ALPHA), host.claims.holder(BETA)) == (CAPTURE, None)
    hang.set()
    until(lambda: host.claims.holder(ALPHA) is None)


def test_the_look_at_all_guests_has_the_time_that_the_order_leaves_and_storage_has_its_own() -> None:
    now = datetime.now(UTC)
    assert patience_for_uses_s(now + timedelta(minutes=2)) == USES_S
    assert LEAST_USES_S < patience_for_uses_s(now + timedelta(seconds=LEAST_USES_S + 8)) < USES_S
    assert patience_for_uses_s(now) == LEAST_USES_S
    assert PATIENCE_S < LEAST_USES_S < ANSWER_S  # a storage that hangs is told in time, also after a guest that hung
