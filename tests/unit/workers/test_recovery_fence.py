"""A seal that hangs in the storage outlives its run: recovery undoes checkpoints only once no such seal can succeed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from freezeframe.repository import Manifest, Repository, Sessions
from freezeframe.repository.catalog import Catalog
from freezeframe.repository.errors import RepositoryNotWritable, SealedTooLate, SessionLost
from freezeframe.repository.session import SessionState
from tests.unit.repository.samples import CHUNK, disk_capture, disk_of, manifest_of, store_disk
from tests.unit.told_run import tell_run
from workers.host import Host
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain
from workers.journal import BackupChange, ClaimChange
from workers.recovery import Recovered, State, recover


class Scene:
    """A capture whose run ended without its hosts knowing whether it is sealed."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.repository = Repository.init(host.repository, chunk_bytes=CHUNK)
        self.guest = host.hypervisor.domains()[0].uuid
        disk = disk_of(b"a", b"")
        index = store_disk(self.repository, disk, checkpoint="c")
        self.manifest = manifest_of(1, disk_capture(index, len(disk), checkpoint="c"), guest=self.guest)
        self.capture_id = self.manifest.capture_id
        self.repository.sessions.begin(self.capture_id, "orchestrator")
        self.settled: list[bool] = []
        monkeypatch.setattr(backup, "end", lambda *_: True)
        monkeypatch.setattr("workers.steps.undo.settle", lambda *_, sealed, ended: self.settled.append(sealed))
        host.claims.take(self.guest, self.capture_id)
        journal = host.journal.of(self.capture_id)
        journal.record(ClaimChange(guest_uuid=self.guest))
        socket = Path("/run/freezeframe/one.sock")
        journal.record(BackupChange(guest_uuid=self.guest, socket=socket, checkpoint="c", repository_id="r"))

    def run_is(self, state: str) -> None:
        tell_run(self.host.redis, self.capture_id, state)

    @property
    def session(self) -> SessionState:
        return self.repository.sessions.load(self.capture_id).state


@pytest.fixture
def scene(host: Host, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(host, monkeypatch)


@pytest.fixture
def hung(scene: Scene, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """The seal of the run hangs before its manifest is written, or just after; what is yielded lets it go on to its end."""
    reached, server_is_back = threading.Event(), threading.Event()
    write = Catalog.write

    def hanging(self: Catalog, manifest: Manifest) -> bool:
        made = request.param == "after" and write(self, manifest)
        reached.set()
        server_is_back.wait()
        return made or write(self, manifest)

    monkeypatch.setattr(Catalog, "write", hanging)
    with ThreadPoolExecutor(1) as pool:
        sealing = pool.submit(scene.repository.seal, scene.manifest)
        reached.wait()

        def go_on() -> None:
            server_is_back.set()
            sealing.result()

        try:
            yield go_on
        finally:
            server_is_back.set()


@pytest.mark.parametrize("hung", ["before"], indirect=True)
@pytest.mark.parametrize("state", ["failed", None])
def test_a_seal_that_hung_until_its_checkpoints_were_undone_is_taken_back(
    scene: Scene, hung: Callable[[], None], state: str | None
) -> None:
    """Or a capture was there whose checkpoints are not: the next one is read in full, and nobody knows why."""
    if state:
        scene.run_is(state)
    assert recover(scene.host) == [Recovered(scene.capture_id, State.UNDONE)]
    assert (scene.settled, scene.session) == ([False], SessionState.FAILED)
    with pytest.raises(SealedTooLate):
        hung()
    assert not scene.repository.is_sealed(scene.capture_id)


@pytest.mark.parametrize("hung", ["after"], indirect=True)
def test_a_seal_whose_manifest_was_visible_before_is_one(scene: Scene, hung: Callable[[], None]) -> None:
    scene.run_is("failed")
    assert recover(scene.host) == [Recovered(scene.capture_id, State.UNDONE)]
    assert (scene.settled, scene.session) == ([True], SessionState.OPEN)
    hung()
    assert scene.repository.is_sealed(scene.capture_id)


def test_a_manifest_that_comes_while_the_session_is_ended_is_asked_for_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.run_is("failed")
    end = Sessions.end

    def sealed_just_before(self: Sessions, session_id: str, *, sealed: bool) -> None:
        scene.repository.write_manifest(scene.manifest)
        end(self, session_id, sealed=sealed)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Sessions, "end", sealed_just_before)
        [found] = recover(scene.host)
    assert (found.state, scene.settled) == (State.STUCK, [])
    assert "was sealed while it was given up" in found.problems[0]
    assert scene.host.claims.holder(scene.guest) == scene.capture_id
    assert recover(scene.host) == [Recovered(scene.capture_id, State.UNDONE)]
    assert scene.settled == [True]


@pytest.mark.parametrize("error", [RepositoryNotWritable("It is read-only."), OSError(5, "Input/output error")])
def test_while_the_session_cannot_be_ended_checkpoint_and_claim_stay(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The seal may still succeed. The backup ends all the same: its scratch file would grow."""
    scene.run_is("failed")
    ended: list[Path] = []

    def end(_domain: Domain, socket: Path) -> bool:
        ended.append(socket)
        return True

    monkeypatch.setattr(backup, "end", end)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    with monkeypatch.context() as away:
        away.setattr(Sessions, "end", refuse)
        [found] = recover(scene.host)
    assert (found.state, len(ended), scene.settled) == (State.STUCK, 1, [])
    assert scene.host.claims.holder(scene.guest) == scene.capture_id
    assert recover(scene.host) == [Recovered(scene.capture_id, State.UNDONE)]
    assert scene.settled == [False]


def test_a_run_that_goes_on_keeps_its_session_also_if_one_host_is_undone_by_force(scene: Scene) -> None:
    """Under `degrade` the guests of the other hosts are still sealed."""
    scene.run_is("transferring")
    assert recover(scene.host, force=True) == [Recovered(scene.capture_id, State.UNDONE)]
    assert scene.session is SessionState.OPEN


def test_a_session_that_is_gone_is_one_that_no_seal_passes(scene: Scene) -> None:
    scene.run_is("failed")
    scene.repository.sessions.delete(scene.capture_id)
    assert recover(scene.host) == [Recovered(scene.capture_id, State.UNDONE)]
    with pytest.raises(SessionLost):
        scene.repository.seal(scene.manifest)
