"""What intake puts into a plan."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import WantedKind
from freezeframe.presence import KnownHost
from orchestrator import intake

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


def host(*guests: tuple[str, str]) -> KnownHost:
    entries = tuple(
        GuestEntry(guest_uuid=f"00000000-0000-4000-8000-00000000000{number}", name=name, state=state)
        for number, (name, state) in enumerate(guests)
    )
    entry = HostEntry(
        host_id="host-a",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=entries,
    )
    return KnownHost(entry, alive=True)


@pytest.mark.case("P6")
def test_a_plan_for_every_guest_names_those_that_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "known_hosts", lambda _: [host(("alpha", "running"), ("beta", "paused"))])
    suspects = SimpleNamespace(marked=lambda: SimpleNamespace(has=lambda *_: False))
    repository = SimpleNamespace(config=SimpleNamespace(chunk_bytes=4096, id="r"), suspects=suspects)
    orchestrator = SimpleNamespace(repository=repository, redis=None, runs=SimpleNamespace(next_epoch=lambda: 1))
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True, kind=WantedKind.FULL)
    plan, faults = intake._plan(cast("Any", orchestrator), request)
    assert faults == ()
    assert [guest.name for one in plan.hosts for guest in one.guests] == ["alpha"]
    assert [(one.guest, one.host, one.reason) for one in plan.left_out] == [("beta", "host-a", "it is paused")]
