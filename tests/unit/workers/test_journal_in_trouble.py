"""Orders on a host whose state directory is full, read-only or failing: each is answered, and nothing is left for good."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from freezeframe.contract import names
from freezeframe.contract.words import Step
from freezeframe.repository import Repository
from tests.unit.orders import transfer_order
from workers import durable, recovery
from workers.bounded import GuestCalls
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.journal import CaptureJournal, ClaimChange
from workers.steps.each_guest import each_guest
from workers.steps.frame import StepCode, run_step
from workers.steps.interruption import settle_interrupted
from workers.steps.table import HOLD, PREPARE, RELEASE, TRANSFER

pytestmark = pytest.mark.case("S6")
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"


def release_order() -> dict[str, Any]:
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    return {"v": 1, "capture_id": CAPTURE, "epoch": 1, "host_id": "host-a", "not_after": later}


def prepare_order() -> dict[str, Any]:
    more = {"method": "backup-pull", "repository_id": "r", "chunk_bytes": 4096, "guests": [], "round": 1}
    return release_order() | more


STEPS: list[tuple[StepCode[Any, Any], Callable[[], dict[str, Any]]]] = [
    (PREPARE, prepare_order),
    (TRANSFER, lambda: transfer_order().model_dump(mode="json")),
    (RELEASE, release_order),
]


def fails(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(owner, name, fail)


def told(host: Host, code: StepCode[Any, Any]) -> dict[str, Any]:
    found = host.redis.hgetall(names.results_key(CAPTURE))
    assert isinstance(found, dict)
    ((field, text),) = found.items()
    assert str(field).startswith(f"{code.step}/host-a")
    answer: dict[str, Any] = json.loads(text)
    return answer


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize(("code", "order"), STEPS, ids=lambda one: getattr(one, "step", ""))
def test_an_order_whose_lock_cannot_be_had_is_answered_with_the_host_and_its_directory(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    code: StepCode[Any, Any],
    order: Callable[[], dict[str, Any]],
    number: int,
) -> None:
    """It raised, so nobody was answered."""
    fails(monkeypatch, CaptureJournal, "lock", number)
    assert run_step(host, code, order())["ok"] is False
    fault = told(host, code)["fault"]
    assert (fault["code"], fault["host"]) == ("host-storage", "host-a")
    assert str(host.settings.state_dir) in fault["message"]
    assert "defect" not in fault["advice"]


@pytest.mark.parametrize("method", ["result", "begun", "record_begun"])
@pytest.mark.parametrize(("code", "order"), STEPS[:2], ids=lambda one: getattr(one, "step", ""))
def test_an_order_that_the_journal_cannot_tell_of_is_answered_and_not_done(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    code: StepCode[Any, Any],
    order: Callable[[], dict[str, Any]],
    method: str,
) -> None:
    fails(monkeypatch, CaptureJournal, method, errno.EIO)
    assert run_step(host, code, order())["ok"] is False
    assert told(host, code)["fault"]["code"] == "host-storage"


@pytest.fixture
def claimed(host: Host, monkeypatch: pytest.MonkeyPatch) -> str:
    """A guest that the capture has in hand, and that needs nothing undone but that."""
    Repository.init(host.repository, chunk_bytes=4096)
    uuid = host.hypervisor.domains()[0].uuid
    host.claims.take(uuid, CAPTURE)
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid=uuid))
    assert isinstance(host.hypervisor, Hypervisor)
    return uuid


@pytest.mark.parametrize("method", ["result", "record_begun"])
def test_a_release_that_the_journal_cannot_tell_of_is_done(
    host: Host, monkeypatch: pytest.MonkeyPatch, claimed: str, method: str
) -> None:
    """It may be done twice, and on a full disk it is what makes room."""
    fails(monkeypatch, CaptureJournal, method, errno.EIO)
    assert run_step(host, RELEASE, release_order())["ok"] is True
    assert host.claims.holder(claimed) is None


def test_a_release_that_could_not_be_locked_is_done_by_recovery(
    host: Host, monkeypatch: pytest.MonkeyPatch, claimed: str
) -> None:
    with monkeypatch.context() as trouble:
        fails(trouble, CaptureJournal, "lock", errno.EROFS)
        assert run_step(host, RELEASE, release_order())["ok"] is False
        assert host.claims.holder(claimed) == CAPTURE
        assert [one.state for one in recovery.recover(host)] == [recovery.State.STUCK]
    assert [one.state for one in recovery.recover(host)] == [recovery.State.UNDONE]
    assert host.claims.holder(claimed) is None


def test_a_lock_file_that_is_there_is_locked_also_where_nothing_can_be_written(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = host.journal.of(CAPTURE)
    with journal.lock(Step.RELEASE, ""):
        pass
    real = Path.open

    def read_only(path: Path, mode: str = "r", *words: Any, **options: Any) -> Any:
        if "w" in mode:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, mode, *words, **options)

    monkeypatch.setattr(Path, "open", read_only)
    with (
        journal.lock(Step.RELEASE, "", wait=False),
        pytest.raises(BlockingIOError),
        journal.lock(Step.RELEASE, "", wait=False),
    ):
        pass


def test_a_guest_whose_work_no_thread_can_be_started_for_costs_no_other_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = GuestCalls.start

    def start(pool: GuestCalls, key: str, call: Callable[[], Any]) -> Any:
        if key.startswith("two"):
            raise RuntimeError("can't start new thread")
        return real(pool, key, call)

    monkeypatch.setattr(GuestCalls, "start", start)
    answers = each_guest(GuestCalls(), ["one", "two", "three"], "preparing it", 30.0, lambda guest: guest)
    assert (answers["one"], answers["three"]) == ("one", "three")
    assert isinstance(answers["two"], RuntimeError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_recovery_undoes_a_guest_also_where_no_lock_file_of_a_step_can_be_made(
    host: Host, monkeypatch: pytest.MonkeyPatch, claimed: str, number: int
) -> None:
    """Nobody is at work on a step that has no lock file; the guest's own was made when it was prepared."""
    journal = host.journal.of(CAPTURE)
    with journal.guest(claimed).lock():
        pass
    real = Path.open

    def takes_no_file(path: Path, mode: str = "r", *words: Any, **options: Any) -> Any:
        if "w" in mode and not path.exists():
            raise OSError(number, os.strerror(number), str(path))
        return real(path, mode, *words, **options)

    monkeypatch.setattr(Path, "open", takes_no_file)
    assert run_step(host, RELEASE, release_order())["ok"] is False
    assert [one.state for one in recovery.recover(host)] == [recovery.State.UNDONE]
    assert host.claims.holder(claimed) is None


def test_recovery_undoes_nothing_while_a_step_is_at_work_where_others_have_no_lock_file(
    host: Host, monkeypatch: pytest.MonkeyPatch, claimed: str
) -> None:
    journal = host.journal.of(CAPTURE)
    with journal.lock(Step.HOLD, ""):
        real = Path.open

        def takes_no_file(path: Path, mode: str = "r", *words: Any, **options: Any) -> Any:
            if "w" in mode and not path.exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return real(path, mode, *words, **options)

        monkeypatch.setattr(Path, "open", takes_no_file)
        assert [one.state for one in recovery.recover(host)] == [recovery.State.BUSY]
    assert host.claims.holder(claimed) == CAPTURE


def test_a_begun_hold_whose_order_cannot_be_read_from_the_disk_is_answered(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = host.journal.of(CAPTURE)
    journal.record_begun(Step.HOLD, "", "{}")
    real = durable.read

    def failing(path: Path) -> str | None:
        if path.parent.name == "begun":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)

    monkeypatch.setattr(durable, "read", failing)
    settle_interrupted(host, [HOLD])
    assert told(host, HOLD)["fault"]["code"] == "unreadable-order"
