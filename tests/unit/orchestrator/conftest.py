"""An orchestrator on a real Redis and a real repository, with one run that has just begun."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from freezeframe import bus, presence
from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import Step
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, OrchestratorSettings
from orchestrator import dispatch
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.run import Runs
from tests.unit.orchestrator.one_run import CAPTURE, VALID_S, Sent, without_places
from tests.unit.repository.samples import CHUNK, GUEST


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    made = Sent()
    monkeypatch.setattr(dispatch, "send", made)
    return made


@pytest.fixture
def begun(bus_settings: BusSettings, tmp_path: Path, sent: Sent) -> Iterator[Orchestrator]:
    with contextlib.closing(bus.connect(bus_settings)) as client:
        made = Orchestrator(
            app=bus.celery_app("orchestrator", bus_settings),
            redis=client,
            runs=Runs(client, 3600),
            settings=OrchestratorSettings(release_validity_s=VALID_S),
            repository=Repository.init(tmp_path / "repository", chunk_bytes=CHUNK),
        )
        entry = HostEntry(
            host_id="host-a",
            at=datetime.now(UTC),
            freezeframe_version="0",
            libvirt_version="9.0.0",
            qemu_version="7.2.0",
            guests=(GuestEntry(guest_uuid=GUEST, name="web", state="running"),),
        )
        presence.publish(client, entry)
        client.persist(names.alive_key("host-a"))  # alive for as long as the test takes
        take_in(made, CaptureRequest(capture_id=CAPTURE, guests=("web",)))
        assert sent.steps == [Step.PREPARE]
        yield made


@pytest.fixture
def orchestrator(begun: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    """One whose first run keeps no guest from other runs: tests ask for the same guest again."""
    return without_places(begun, CAPTURE, monkeypatch)
