"""A host whose Redis does not know a run gives up its own guests at once, and the capture of all hosts only if that lasts."""

from __future__ import annotations

import threading

import pytest
import redis

from freezeframe.contract import names
from freezeframe.repository.errors import SessionLost
from freezeframe.repository.session import SessionState
from tests.unit.repository.samples import manifest_of
from tests.unit.told_run import tell_run
from tests.unit.workers.test_own_redis import meet_redis
from tests.unit.workers.test_recovery_fence import Scene
from workers import recovery
from workers.host import Host
from workers.hypervisor import backup
from workers.journal import ClaimChange
from workers.recovery import Recovered, State, recover
from workers.unknown_runs import LOST_S, UnknownRuns


class Waiting:
    """The looks of one control worker at a capture, and its clock."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.now = 1000.0
        self.unknown = UnknownRuns(lambda: self.now)

    def look(self, after_s: float = 0.0) -> Recovered:
        self.now += after_s
        [found] = recover(self.scene.host, unknown=self.unknown)
        return found


@pytest.fixture
def scene(host: Host, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(host, monkeypatch)


@pytest.fixture
def waiting(scene: Scene) -> Waiting:
    return Waiting(scene)


def test_a_run_that_one_host_s_redis_does_not_know_for_a_moment_is_sealed_all_the_same(
    waiting: Waiting, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the wrong side of a split: the other hosts, and the orchestrator, know it."""
    ended: list[object] = []

    def end(_domain: object, socket: object) -> bool:
        ended.append(socket)
        return True

    monkeypatch.setattr(backup, "end", end)
    assert waiting.look().state is State.UNKNOWN
    assert len(ended) == 1  # its scratch file would grow
    assert waiting.look(LOST_S - 1).state is State.UNKNOWN
    assert (scene.session, scene.settled) == (SessionState.OPEN, [])
    assert scene.host.claims.holder(scene.guest) == scene.capture_id
    scene.run_is("transferring")
    assert waiting.look(60).state is State.RUNNING
    scene.repository.seal(scene.manifest)
    scene.run_is("done")
    assert waiting.look().state is State.UNDONE
    assert scene.settled == [True]


def test_a_run_that_stays_unknown_is_given_up_and_all_of_it_undone(waiting: Waiting, scene: Scene) -> None:
    waiting.look()
    assert waiting.look(LOST_S) == Recovered(scene.capture_id, State.UNDONE)
    assert (scene.session, scene.settled) == (SessionState.FAILED, [False])
    assert scene.host.claims.holder(scene.guest) is None
    with pytest.raises(SessionLost):
        scene.repository.seal(scene.manifest)


@pytest.mark.parametrize("between", ["known", "away", "unreadable"])
def test_a_run_must_be_unknown_without_an_answer_in_between_that_is_another(
    waiting: Waiting, scene: Scene, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    waiting.look()
    with monkeypatch.context() as meanwhile:
        if between == "away":

            def away(*_: object) -> None:
                raise redis.ConnectionError("away")

            meanwhile.setattr(scene.host.redis, "hmget", away)
        else:
            tell_run(scene.host.redis, scene.capture_id, "holding" if between == "known" else "melting")
        assert waiting.look(LOST_S).state is (State.RUNNING if between == "known" else State.UNKNOWN)
    scene.host.redis.delete(names.run_key(scene.capture_id))
    assert waiting.look(LOST_S).state is State.UNKNOWN
    assert scene.session is SessionState.OPEN
    assert waiting.look(LOST_S).state is State.UNDONE


def test_a_capture_that_is_sealed_needs_no_waiting(waiting: Waiting, scene: Scene) -> None:
    scene.repository.seal(scene.manifest)
    assert waiting.look().state is State.UNDONE
    assert scene.settled == [True]
    assert scene.host.claims.holder(scene.guest) is None


def test_nor_does_a_run_that_has_failed(waiting: Waiting, scene: Scene) -> None:
    waiting.look()
    scene.run_is("failed")
    assert waiting.look().state is State.UNDONE
    assert (scene.session, scene.settled) == (SessionState.FAILED, [False])


def test_by_hand_at_this_host_s_own_redis_nobody_waits(scene: Scene) -> None:
    meet_redis(scene.host)
    assert recover(scene.host, by_hand=True) == [Recovered(scene.capture_id, State.UNDONE)]
    assert scene.session is SessionState.FAILED


def test_each_run_is_waited_for_by_itself_and_anew_when_it_was_undone(waiting: Waiting, scene: Scene) -> None:
    waiting.look()
    other, guest = manifest_of(2).capture_id, "00000000-0000-4000-8000-00000000000a"
    journal = scene.host.journal.of(other)
    scene.repository.sessions.begin(other, "orchestrator")
    for found_first in ([(scene.capture_id, State.UNDONE)], []):
        scene.host.claims.take(guest, other)
        journal.record(ClaimChange(guest_uuid=guest))
        waiting.now += LOST_S
        found = [(one.capture_id, one.state) for one in recover(scene.host, unknown=waiting.unknown)]
        assert found == [*found_first, (other, State.UNKNOWN)]
        assert waiting.look(LOST_S) == Recovered(other, State.UNDONE)
        assert recover(scene.host, unknown=waiting.unknown) == []
        (scene.host.settings.state_dir / "captures" / other / "ended").unlink()


def test_what_cannot_be_undone_meanwhile_is_told(
    waiting: Waiting, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "undo_guests", lambda *_, sealed: [f"guest {scene.guest}: its agent is away"])
    found = waiting.look()
    assert (found.state, found.problems[1:]) == (State.STUCK, (f"guest {scene.guest}: its agent is away",))
    assert scene.session is SessionState.OPEN


def test_the_control_worker_looks_four_times(waiting: Waiting, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, sessions = threading.Event(), []

    def wait(seconds: float) -> bool:
        sessions.append(scene.session)
        waiting.now += seconds
        if scene.session is not SessionState.OPEN:
            stop.set()
        return stop.is_set()

    monkeypatch.setattr(stop, "wait", wait)
    monkeypatch.setattr(recovery, "UnknownRuns", lambda: waiting.unknown)
    recovery.recover_forever(scene.host, stop)
    assert sessions == [SessionState.OPEN] * 3 + [SessionState.FAILED]
