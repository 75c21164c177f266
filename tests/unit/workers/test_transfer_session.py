"""A transfer looks for its session before it begins and before it reports: without one nobody could seal what it reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import Repository
from freezeframe.repository.errors import SessionLost
from workers.host import Host
from workers.steps.reading import Reading
from workers.steps.transfer import transfer

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
CHUNK = 4096


@pytest.fixture
def repository(host: Host) -> Repository:
    host.settings.scratch_dir.mkdir()
    return Repository.init(host.repository, chunk_bytes=CHUNK)


def order() -> TransferOrder:
    return TransferOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        guest_uuid="00000000-0000-4000-8000-00000000000a",
        guest_name="alpha",
        target="vda",
        size_bytes=CHUNK,
        chunk_bytes=CHUNK,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )


def reading(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> list[bool]:
    """Nothing is read from any guest; whether it was begun."""
    begun: list[bool] = []

    def run(_: object) -> None:
        begun.append(True)
        meanwhile()

    monkeypatch.setattr(Reading, "run", run)
    return begun


def test_with_a_session_the_index_is_reported(
    host: Host, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.sessions.begin(CAPTURE, "test")
    reading(monkeypatch, lambda: None)
    assert transfer(host, order()).index is not None


def test_without_one_no_guest_is_read(host: Host, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = reading(monkeypatch, lambda: None)
    with pytest.raises(SessionLost):
        transfer(host, order())
    assert begun == []


def test_one_that_was_ended_meanwhile_is_told(
    host: Host, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.sessions.begin(CAPTURE, "test")
    reading(monkeypatch, lambda: repository.sessions.end(CAPTURE, sealed=False))
    with pytest.raises(SessionLost, match="ended"):
        transfer(host, order())
