"""Recovery: what a capture left is undone when nobody else will, and left alone while somebody may be at work on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from freezeframe.contract import names
from freezeframe.contract.words import HoldKind, Step
from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryNotReadable
from workers.host import Host
from workers.hypervisor import agent, backup
from workers.hypervisor.domain import Domain
from workers.journal import BackupChange, CaptureJournal, ClaimChange, HoldChange
from workers.recovery import Recovered, State, recover
from workers.steps.undo import undo_guest

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER_CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAB"
FIELD = names.result_field(Step.HOLD, "host-a")


@pytest.fixture
def guest(host: Host) -> str:
    """The one guest of the test driver, claimed by a capture that has not ended."""
    Repository.init(host.repository, chunk_bytes=4096)
    uuid = host.hypervisor.domains()[0].uuid
    host.claims.take(uuid, CAPTURE)
    journal(host).record(ClaimChange(guest_uuid=uuid))
    return uuid


def journal(host: Host) -> CaptureJournal:
    return host.journal.of(CAPTURE)


def run_is(host: Host, state: str) -> None:
    host.redis.hset(names.run_key(CAPTURE), "record", json.dumps({"state": state}))


def told(host: Host) -> object:
    return host.redis.hget(names.results_key(CAPTURE), FIELD)


def left_alone(host: Host, guest: str) -> bool:
    return host.claims.holder(guest) == CAPTURE and not journal(host).ended


def test_what_was_answered_while_redis_was_away_is_told_while_the_run_goes_on(host: Host, guest: str) -> None:
    journal(host).store_result(Step.HOLD, "", "answer")
    run_is(host, "holding")
    assert recover(host) == [Recovered(CAPTURE, State.RUNNING)]
    assert told(host) == "answer"
    assert host.redis.ttl(names.results_key(CAPTURE)) > 0
    assert left_alone(host, guest)


def test_a_result_that_was_told_is_not_told_anew(host: Host, guest: str) -> None:
    journal(host).store_result(Step.HOLD, "", "answer")
    run_is(host, "holding")
    host.redis.hset(names.results_key(CAPTURE), FIELD, "the first")
    recover(host)
    assert told(host) == "the first"


@pytest.mark.parametrize("state", [None, "failed", "done"])
def test_a_capture_whose_run_has_ended_or_is_lost_is_undone(host: Host, guest: str, state: str | None) -> None:
    if state:
        run_is(host, state)
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]
    assert host.claims.holder(guest) is None
    assert journal(host).ended


def test_without_redis_nobody_is_touched_and_it_is_told_apart_from_a_run_that_goes_on(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(host.redis, "hget", away)
    [found] = recover(host)
    assert (found.state, found.problems) == (State.UNKNOWN, ("Redis does not answer: away.",))
    assert left_alone(host, guest)
    assert recover(host, force=True) == [Recovered(CAPTURE, State.UNDONE)]


@pytest.mark.parametrize(
    ("step", "part"), [(Step.PREPARE, ""), (Step.PREPARE, "round1"), (Step.HOLD, ""), (Step.RELEASE, "")]
)
def test_a_step_at_work_keeps_recovery_out_even_by_force(host: Host, guest: str, step: Step, part: str) -> None:
    with journal(host).lock(step, part):
        assert recover(host, force=True) == [Recovered(CAPTURE, State.BUSY)]
        assert left_alone(host, guest)
    assert recover(host, force=True) == [Recovered(CAPTURE, State.UNDONE)]


def test_no_step_begins_while_recovery_is_at_work(host: Host, guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Step] = []

    def undo(host: Host, journal: CaptureJournal, *, sealed: object) -> list[str]:
        for step in (Step.PREPARE, Step.HOLD, Step.RELEASE):
            with pytest.raises(BlockingIOError), journal.lock(step, "", wait=False):
                begun.append(step)
        return []

    monkeypatch.setattr("workers.recovery.undo_capture", undo)
    recover(host)
    assert begun == []


def test_a_repository_that_cannot_be_reached_is_asked_once_a_look(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking takes as long as patience with object storage lasts, whatever the number of captures to undo."""
    host.journal.of(OTHER_CAPTURE).record(ClaimChange(guest_uuid=guest))
    asked: list[Host] = []

    def away(own: Host) -> Repository:
        asked.append(own)
        raise RepositoryNotReadable("The server cannot be reached.", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(Host, "open_repository", away)
        assert [(found.state, found.problems) for found in recover(host)] == [
            (State.STUCK, ("The server cannot be reached.",)),
            (State.STUCK, ("The server cannot be reached.",)),
        ]
        assert len(asked) == 1
        assert left_alone(host, guest)
        recover(host)
        assert len(asked) == 2
    assert {found.state for found in recover(host)} == {State.UNDONE}


def test_an_agent_that_died_no_longer_keeps_a_backup_running(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test driver knows no agents, which is as dead as one can be; its backups are ended by a stand-in."""
    socket = Path("/run/freezeframe/one.sock")
    ended: list[Path] = []

    def end(_domain: Domain, socket: Path) -> bool:
        ended.append(socket)
        return True

    monkeypatch.setattr(backup, "end", end)
    journal(host).record(BackupChange(guest_uuid=guest, socket=socket, checkpoint=None, repository_id="r"))
    journal(host).record(HoldChange(guest_uuid=guest, hold=HoldKind.FREEZE))
    [found] = recover(host)
    assert (found.state, ended) == (State.STUCK, [socket])
    assert guest in found.problems[0]
    assert left_alone(host, guest)  # nobody builds on a guest that may still be frozen

    def thaw(_domain: Domain, _timeout_s: int) -> int:
        return 0

    monkeypatch.setattr(agent, "thaw", thaw)  # the agent is back
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]


def test_undoing_one_guest_leaves_the_capture_s_other_guests_alone(host: Host, guest: str) -> None:
    """As a refused second order to prepare does, on a host whose first guests are prepared."""
    other = "00000000-0000-4000-8000-00000000000a"
    host.claims.take(other, CAPTURE)
    journal(host).record(ClaimChange(guest_uuid=other))
    assert undo_guest(host, journal(host), other, sealed=False) == []
    assert host.claims.holder(other) is None
    assert left_alone(host, guest)
