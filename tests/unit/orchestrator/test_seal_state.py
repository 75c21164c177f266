"""A run that is given up, and a manifest that is there all the same: the manifest decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import redis

from freezeframe.cli.following import exit_code, show_receipt
from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import ReleaseOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import HoldResult, PrepareResult, TransferResult
from freezeframe.contract.words import Policy, RunState, Step
from freezeframe.repository import Manifest, Repository, Sessions
from freezeframe.repository.document import checked
from freezeframe.repository.errors import RepositoryNotReadable, RepositoryNotWritable, SealedTooLate
from freezeframe.repository.session import SessionState
from orchestrator import decision, lease, seal_state, sessions
from orchestrator.errors import TransferStalledError
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Runs
from tests.unit.orchestrator.one_run import CAPTURE, Sent, answer, hold, prepare, release, transfer
from tests.unit.orchestrator.test_decision import run as decided_run
from tests.unit.repository.samples import GUEST, OTHER_GUEST

STALLED = Fault.of(TransferStalledError("The transfers on host host-a do not move any more."), host="host-a")
#: The same under `degrade`, which tells of each disk.
DROPPED = STALLED.model_copy(
    update={"message": f"Disk vda of guest web was not stored. {STALLED.message}", "guest": "web", "disk": "vda"}
)


def run_of(orchestrator: Orchestrator) -> Run:
    run, _ = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    return run


def change(orchestrator: Orchestrator, **update: object) -> Run:
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    changed = run.model_copy(update=update)
    assert orchestrator.runs.change(changed, version, tell=False)
    return changed


def past(orchestrator: Orchestrator) -> None:
    change(orchestrator, due_at=datetime.now(UTC) - timedelta(seconds=1))


def given_up(orchestrator: Orchestrator) -> Run:
    return orchestrator.look(CAPTURE, {"host-a": STALLED}) or pytest.fail("no run")


def told_sealed(sent: Sent) -> list[tuple[str, ...] | None]:
    assert sent.steps[-1] is Step.RELEASE
    return [order.sealed_guests for order in sent.orders if isinstance(order, ReleaseOrder)]


class Snapshot:
    """Redis as it was a while ago."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._redis = orchestrator.redis
        self._keys = (names.run_key(CAPTURE), names.results_key(CAPTURE))
        self._hashes = [cast("dict[str, str]", self._redis.hgetall(key)) for key in self._keys]

    def come_back(self) -> None:
        for key, content in zip(self._keys, self._hashes, strict=True):
            self._redis.delete(key)
            if content:
                self._redis.hset(key, mapping=cast("dict[Any, Any]", content))
        self._redis.sadd(names.ACTIVE_RUNS_KEY, CAPTURE)


def place_of(orchestrator: Orchestrator) -> Path:
    repository = orchestrator.repository
    return Path(repository.address) / repository.objects.protection.manifest_name(CAPTURE)


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


@pytest.fixture
def sealed_once(orchestrator: Orchestrator) -> Manifest:
    """The capture was sealed, and Redis is back as it was when the disk was still read."""
    prepare(orchestrator)
    hold(orchestrator)
    before = Snapshot(orchestrator)
    transfer(orchestrator)
    assert release(orchestrator).state is RunState.DONE
    before.come_back()
    assert run_of(orchestrator).state is RunState.TRANSFERRING
    return orchestrator.repository.manifest(CAPTURE)


@pytest.mark.parametrize("at", [RunState.PREPARING, RunState.HOLDING, RunState.TRANSFERRING, RunState.SEALING])
def test_a_redis_of_before_the_seal_makes_no_failure_of_a_sealed_capture(
    orchestrator: Orchestrator, sent: Sent, at: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the run then meets: hosts that have released the capture refuse or do not answer."""
    snapshots = {RunState.PREPARING: Snapshot(orchestrator)}
    prepare(orchestrator)
    snapshots[RunState.HOLDING] = Snapshot(orchestrator)
    hold(orchestrator)
    snapshots[RunState.TRANSFERRING] = Snapshot(orchestrator)
    changed = Runs.change

    def remembered(self: Runs, run: Run, version: str, *, tell: bool = True) -> bool:
        done = changed(self, run, version, tell=tell)
        if run.state is RunState.SEALING:
            snapshots[RunState.SEALING] = Snapshot(orchestrator)
        return done

    with monkeypatch.context() as watched:
        watched.setattr(Runs, "change", remembered)
        transfer(orchestrator)
    assert release(orchestrator).state is RunState.DONE
    snapshots[at].come_back()
    past(orchestrator)
    run = given_up(orchestrator)
    assert (run.state, run.sealed, run.kept, run.faults) == (RunState.RELEASING, True, (GUEST,), ())
    assert told_sealed(sent) == [(GUEST,)]
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, [guest.guest for guest in receipt.guests], exit_code(receipt)) == (RunState.DONE, ["web"], 0)
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.SEALED


def test_a_capture_that_is_asked_for_again_after_redis_was_emptied_is_the_one_that_is_sealed(
    orchestrator: Orchestrator, sent: Sent
) -> None:
    """Its host has released it, and prepares nothing of it again."""
    prepare(orchestrator)
    hold(orchestrator)
    transfer(orchestrator)
    done = release(orchestrator)
    orchestrator.redis.delete(names.run_key(CAPTURE), names.results_key(CAPTURE))
    take_in(orchestrator, done.request)
    late = Fault(code="late-order", message="This host has released the capture already.", host="host-a")
    answer(orchestrator, Step.PREPARE, PrepareResult(capture_id=CAPTURE, host_id="host-a", fault=late))
    assert told_sealed(sent) == [(GUEST,)]
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, [guest.guest for guest in receipt.guests], receipt.faults) == (RunState.DONE, ["web"], ())


def test_what_a_sealed_run_met_is_a_warning(orchestrator: Orchestrator, sealed_once: Manifest) -> None:
    given_up(orchestrator)
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert sealed_once.capture_id == receipt.capture_id
    assert [text for text in receipt.warnings if STALLED.message in text] == list(receipt.warnings) != []


def test_a_manifest_that_would_be_another_now_stays_the_one_that_is_there(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orchestrator died before it could note the seal, and an answer came since that changes the proof."""
    prepare(orchestrator)
    hold(orchestrator)
    changed = Runs.change

    def refuse(self: Runs, run: Run, version: str, *, tell: bool = True) -> bool:
        if run.state is RunState.RELEASING:
            raise redis.ReadOnlyError("READONLY You can't write against a read only replica.")
        return changed(self, run, version, tell=tell)

    monkeypatch.setattr(Runs, "change", refuse)
    with pytest.raises(redis.ReadOnlyError):
        transfer(orchestrator)
    monkeypatch.setattr(Runs, "change", changed)
    first = place_of(orchestrator).read_bytes()
    field = names.result_field(Step.HOLD, "host-a")
    key = names.results_key(CAPTURE)
    told = HoldResult.model_validate_json(cast("str", orchestrator.redis.hget(key, field)))
    assert told.proof is not None
    late = told.model_copy(update={"release_us": 1})
    orchestrator.redis.hset(key, field, late.model_dump_json())
    run = orchestrator.look(CAPTURE)
    assert run is not None
    assert (run.state, run.sealed, run.faults, run.warnings) == (RunState.RELEASING, True, (), ())
    assert told_sealed(sent) == [(GUEST,)]
    assert place_of(orchestrator).read_bytes() == first


def test_a_seal_that_was_not_noted_is_sealed_once(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orchestrator ended between the two, and nothing has changed."""
    prepare(orchestrator)
    hold(orchestrator)
    sealing = Repository.seal

    def seal_and_die(self: Repository, manifest: Manifest) -> None:
        sealing(self, manifest)
        raise KeyboardInterrupt

    monkeypatch.setattr(Repository, "seal", seal_and_die)
    with pytest.raises(KeyboardInterrupt):
        transfer(orchestrator)
    monkeypatch.setattr(Repository, "seal", sealing)
    assert run_of(orchestrator).state is RunState.SEALING
    first = place_of(orchestrator).read_bytes()
    run = orchestrator.look(CAPTURE)
    assert run is not None
    assert (run.sealed, run.faults, told_sealed(sent)) == (True, (), [(GUEST,)])
    assert place_of(orchestrator).read_bytes() == first


def with_other_guest(orchestrator: Orchestrator) -> None:
    """Plan a second guest, which the manifest will not have."""
    plan = run_of(orchestrator).plan or pytest.fail("no plan")
    [host] = plan.hosts
    other = host.guests[0].model_copy(update={"guest_uuid": OTHER_GUEST, "name": "db"})
    assert isinstance(other, GuestPlan)
    hosts = (host.model_copy(update={"guests": (*host.guests, other)}),)
    request = run_of(orchestrator).request.model_copy(update={"policy": Policy.DEGRADE})
    change(orchestrator, plan=plan.model_copy(update={"hosts": hosts}), request=request)


def test_exactly_the_guests_of_the_manifest_are_released_as_sealed(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent
) -> None:
    """And of a guest that is not in it that is told, with the reason if it is known, else without."""
    assert [guest.guest_uuid for guest in sealed_once.guests] == [GUEST]
    with_other_guest(orchestrator)
    change(orchestrator, kept=(GUEST, OTHER_GUEST))
    lost = Fault(code="lost-in-transfer", message="Its disk was not stored.", guest="db", host="host-a")
    before = Snapshot(orchestrator)
    change(orchestrator, faults=(lost,))
    given_up(orchestrator)
    run = run_of(orchestrator)
    assert (run.kept, run.faults, told_sealed(sent)) == ((GUEST,), (lost,), [(GUEST,)])
    before.come_back()
    own = Fault(code="lost-in-transfer", message="Its disk was not stored.", guest="web", host="host-a")
    change(orchestrator, faults=(own,))
    given_up(orchestrator)
    run = run_of(orchestrator)
    assert [(fault.code, fault.guest) for fault in run.faults] == [("not-in-capture", "db")]
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, exit_code(receipt)) == (RunState.DONE, 10)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_run_that_is_not_sealed_says_so_to_its_hosts(orchestrator: Orchestrator, sent: Sent, policy: Policy) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    change(orchestrator, request=run_of(orchestrator).request.model_copy(update={"policy": policy}))
    run = given_up(orchestrator)
    lost = STALLED if policy is Policy.ALL else DROPPED
    assert (run.sealed, run.kept, run.faults, run.unsealed_faults) == (False, (), (lost,), ())
    assert told_sealed(sent) == [()]
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.FAILED
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, receipt.faults) == (RunState.FAILED, (lost,))


AWAY = RepositoryNotReadable("The mount is gone.")


@pytest.mark.parametrize("was_sealed", [True, False])
def test_a_repository_that_is_away_decides_nothing_until_it_is_back(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch, *, was_sealed: bool
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    before = Snapshot(orchestrator)
    if was_sealed:
        transfer(orchestrator)
        before.come_back()
    with monkeypatch.context() as away:
        away.setattr(Repository, "is_sealed", raising(AWAY))
        run = given_up(orchestrator)
        assert (run.state, run.sealed, run.dispatched) == (RunState.RELEASING, None, True)
        assert told_sealed(sent) == [None]
        assert release(orchestrator).state is RunState.RELEASING
    Reconciler(orchestrator).reconcile()
    receipt = run_of(orchestrator).receipt
    assert receipt is not None
    assert receipt.state is (RunState.DONE if was_sealed else RunState.FAILED)
    assert receipt.faults == (() if was_sealed else (STALLED,))
    assert len(receipt.guests) == was_sealed


def test_a_repository_that_stays_away_is_waited_for_until_the_time_is_over_and_no_longer(
    orchestrator: Orchestrator,
    sealed_once: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Then it is said that it is not known, and the session stays open for who finds out later."""
    orchestrator.repository.sessions.delete(sealed_once.capture_id)
    orchestrator.repository.sessions.begin(CAPTURE, sessions.PROGRAM)
    with monkeypatch.context() as away:
        away.setattr(Repository, "is_sealed", raising(AWAY))
        given_up(orchestrator)
        release(orchestrator)
        past(orchestrator)
        Reconciler(orchestrator).reconcile()
        receipt = run_of(orchestrator).receipt
        assert receipt is not None
        assert receipt.state is RunState.FAILED
        assert [fault.code for fault in receipt.faults] == ["transfer-stalled", "seal-unknown"]
        assert AWAY.message in receipt.faults[1].message
        assert f"`freezeframe captures show {CAPTURE}`" in receipt.faults[1].advice
        assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.OPEN
    show_receipt(receipt)
    shown = capsys.readouterr()
    assert "nothing was kept" not in shown.out + shown.err
    assert "not known" in shown.out
    sessions.end_left(orchestrator.repository, orchestrator.runs)
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.SEALED


def test_a_manifest_that_may_not_outlast_a_power_cut_is_not_known_to_be_sealed(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seal could not settle it. Hosts that are told "sealed" remove what the captures before it need."""

    def full(*_: object) -> NoReturn:
        raise RepositoryNotWritable("Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(type(orchestrator.repository.store), "settle", full)
        given_up(orchestrator)
        assert told_sealed(sent) == [None]
    assert release(orchestrator).state is RunState.DONE
    assert run_of(orchestrator).kept == tuple(guest.guest_uuid for guest in sealed_once.guests)


@pytest.mark.parametrize("gone", ["unmounted", "another"])
def test_a_repository_that_is_not_there_is_not_one_without_the_manifest(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent, gone: str
) -> None:
    """An empty mount point, or another file system in its place."""
    root = Path(orchestrator.repository.address)
    kept = root.rename(root.with_name("elsewhere"))
    root.mkdir()
    if gone == "another":
        root.rmdir()
        Repository.init(root)
    run = given_up(orchestrator)
    assert (run.sealed, told_sealed(sent)) == (None, [None])
    root.rename(root.with_name("not-it"))
    kept.rename(root)
    done = release(orchestrator)
    assert (done.state, done.kept) == (RunState.DONE, (GUEST,))
    assert orchestrator.repository.is_sealed(sealed_once.capture_id)


@pytest.mark.parametrize("damage", ["damaged", "newer"])
def test_a_manifest_that_cannot_be_read_is_there(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent, damage: str
) -> None:
    content = {**sealed_once.model_dump(mode="json"), "format": 2}
    place_of(orchestrator).write_bytes(b"{}" if damage == "damaged" else checked(content))
    given_up(orchestrator)
    assert told_sealed(sent) == [None]  # which guests it has is not known
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert (receipt.state, receipt.faults) == (RunState.DONE, (STALLED,))
    assert any("cannot be read now" in text and str(place_of(orchestrator)) in text for text in receipt.warnings)
    assert place_of(orchestrator).exists()


def test_an_orchestrator_that_is_still_at_work_on_the_manifest_takes_it_back(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two orchestrators: while one seals the other gives the run up."""
    prepare(orchestrator)
    hold(orchestrator)
    outcome: list[str] = []
    checking = Repository.seal

    def seal(self: Repository, manifest: Manifest) -> None:
        with monkeypatch.context() as other:
            write = self._catalog.write

            def given_up_meanwhile(one: Manifest) -> bool:
                run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
                following = decision.enter(
                    run, RunState.RELEASING, datetime.now(UTC), orchestrator.settings, faults=(STALLED,), kept=()
                )
                assert orchestrator.runs.change(seal_state.doubted(run, following), version)
                orchestrator.dispatch(run_of(orchestrator))
                return write(one)

            other.setattr(self._catalog, "write", given_up_meanwhile)
            try:
                checking(self, manifest)
            except SealedTooLate:
                outcome.append("taken back")
                raise

    monkeypatch.setattr(Repository, "seal", seal)
    run = transfer(orchestrator)
    assert outcome == ["taken back"]
    assert not orchestrator.repository.is_sealed(CAPTURE)
    assert (run.state, run.sealed, run.faults) == (RunState.RELEASING, False, (STALLED,))
    assert told_sealed(sent) == [()]


def refusing_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sessions, "end", raising(RepositoryNotWritable("No space is left.")))


def test_a_session_that_cannot_be_ended_leaves_a_run_that_came_to_its_seal_in_doubt(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seal of it may hang in the storage, and succeed when its server is back."""
    prepare(orchestrator)
    hold(orchestrator)
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "seal", raising(RepositoryNotWritable("No space is left.")))
        assert transfer(orchestrator).state is RunState.SEALING
        past(orchestrator)
        refusing_ends(patch)
        run = orchestrator.look(CAPTURE)
        assert run is not None
        assert (run.state, run.sealed, told_sealed(sent)) == (RunState.RELEASING, None, [None])
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.OPEN
    run = release(orchestrator)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.FAILED, ["repository-not-writable"])
    assert orchestrator.repository.sessions.load(CAPTURE).state is SessionState.FAILED


def test_a_session_that_cannot_be_ended_is_no_doubt_of_a_run_that_never_came_to_its_seal(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage that is full: its transfers failed for it, and its session cannot be written."""
    prepare(orchestrator)
    hold(orchestrator)
    refusing_ends(monkeypatch)
    run = given_up(orchestrator)
    assert (run.sealed, run.faults, told_sealed(sent)) == (False, (STALLED,), [()])


def test_a_manifest_that_comes_while_the_repository_is_asked_is_not_decided_upon_yet(
    orchestrator: Orchestrator, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an orchestrator that may still take it back."""
    prepare(orchestrator)
    hold(orchestrator)
    before = Snapshot(orchestrator)
    transfer(orchestrator)
    before.come_back()
    hidden = place_of(orchestrator).rename(place_of(orchestrator).with_suffix(".later"))
    ending = Sessions.end

    def sealed_now(self: Sessions, session_id: str, *, sealed: bool) -> None:
        ending(self, session_id, sealed=sealed)
        if hidden.exists():
            hidden.rename(place_of(orchestrator))

    monkeypatch.setattr(Sessions, "end", sealed_now)
    given_up(orchestrator)
    assert told_sealed(sent) == [None]
    assert release(orchestrator).state is RunState.DONE


def test_an_orchestrator_that_ends_before_it_has_asked_leaves_that_to_the_reconciler(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sealed_once.guests
    sent.steps.clear()
    with monkeypatch.context() as dying:
        dying.setattr(Orchestrator, "dispatch", lambda *_: None)
        given_up(orchestrator)
    run = run_of(orchestrator)
    assert (run.state, run.sealed, run.unsealed_faults, sent.steps) == (RunState.RELEASING, None, (STALLED,), [])
    change(orchestrator, entered_at=run.entered_at - lease.GRACE - timedelta(seconds=1))
    orchestrator.redis.hdel(names.results_key(CAPTURE), names.result_field(Step.RELEASE, "host-a"))
    Reconciler(orchestrator).reconcile()
    assert told_sealed(sent) == [(GUEST,)]
    assert run_of(orchestrator).sealed is True


@pytest.mark.parametrize("broken", ["after_transfer", "after_release"])
def test_a_run_that_cannot_be_looked_at_is_given_up_as_what_the_repository_has(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    assert sealed_once.guests
    if broken == "after_release":
        with monkeypatch.context() as away:
            away.setattr(Repository, "is_sealed", raising(AWAY))
            given_up(orchestrator)
    monkeypatch.setattr(decision, broken, raising(IndexError("a defect")))
    past(orchestrator)
    Reconciler(orchestrator).reconcile()
    run = run_of(orchestrator)
    if broken == "after_transfer":
        assert told_sealed(sent) == [(GUEST,)]
        assert (run.state, run.sealed, run.faults) == (RunState.RELEASING, True, ())
    else:
        assert (run.state, run.sealed, run.faults) == (RunState.DONE, True, ())


def test_a_repository_that_hangs_keeps_no_host_from_its_release(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sealed_once.guests
    server_is_back = threading.Event()
    waiting: list[threading.Thread] = []

    def hangs(*_: object) -> bool:
        waiting.append(threading.current_thread())
        server_is_back.wait()
        return True

    monkeypatch.setattr(Repository, "is_sealed", hangs)
    monkeypatch.setattr(seal_state, "PATIENCE_S", 0.05)
    try:
        given_up(orchestrator)
        assert told_sealed(sent) == [None]
        assert release(orchestrator).state is RunState.RELEASING
        assert len(waiting) == 1  # the second question is not asked beside the first
    finally:
        server_is_back.set()
        for thread in waiting:
            thread.join()
    monkeypatch.undo()
    run = orchestrator.look(CAPTURE)
    assert run is not None
    assert run.state is RunState.DONE


def test_a_run_with_a_doubt_is_read_as_it_was_written(orchestrator: Orchestrator) -> None:
    """And one without has no word of it, so that an orchestrator which does not know it reads the record."""
    assert "unsealed_faults" not in json.loads(cast("str", orchestrator.redis.hget(names.run_key(CAPTURE), "record")))
    run = change(orchestrator, sealed=None, unsealed_faults=(STALLED,))
    assert run_of(orchestrator) == run


def test_a_disk_that_fails_in_its_transfer_fails_the_capture_and_no_sealed_one(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent
) -> None:
    """Policy `all`: the first failed disk ends the run; the transfer was sent again to a worker that has nothing to read."""
    assert sealed_once.guests
    gone = Fault(code="source-gone", message="The export is gone.", guest="web", host="host-a", disk="vda")
    result = TransferResult(capture_id=CAPTURE, host_id="host-a", guest_uuid=GUEST, target="vda", fault=gone)
    run = answer(orchestrator, Step.TRANSFER, result, f"{GUEST}.vda")
    assert (run.sealed, run.faults, told_sealed(sent)) == (True, (), [(GUEST,)])


@pytest.mark.parametrize(
    ("host", "told"),
    [("host-a", ["host-storage"]), ("host-b", ["host-storage", "not-in-capture"])],
    ids=["of both guests", "of neither"],
)
def test_a_fault_that_is_not_of_captured_guests_alone_is_one_of_a_sealed_run_too(
    orchestrator: Orchestrator, host: str, told: list[str]
) -> None:
    """That of a host says why one of its guests is missing, though another was captured."""
    with_other_guest(orchestrator)
    fault = Fault(code="host-storage", message="No space is left.", host=host)
    run = run_of(orchestrator).model_copy(update={"sealed": None, "faults": (fault,)})
    found = seal_state.settled(run, seal_state.SealState(sealed=True, guests=(GUEST,)))
    assert (found.sealed, found.kept, found.warnings) == (True, (GUEST,), ())
    assert [one.code for one in found.faults] == told


@pytest.mark.parametrize("meanwhile", ["changed", "gone"])
def test_a_look_that_was_overtaken_while_it_asked_the_repository_sends_no_orders(
    orchestrator: Orchestrator, sealed_once: Manifest, sent: Sent, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """The one that was faster has sent them, by what it had found."""
    assert sealed_once.guests
    asking = seal_state.ask

    def overtaken(repository: Repository, run: Run, *, was_refused: bool) -> seal_state.SealState:
        found = asking(repository, run, was_refused=was_refused)
        if meanwhile == "gone":
            orchestrator.redis.delete(names.run_key(CAPTURE))
        else:
            change(orchestrator, sealed=True, kept=(GUEST,))
        return found

    monkeypatch.setattr(seal_state, "ask", overtaken)
    sent.steps.clear()
    orchestrator.look(CAPTURE, {"host-a": STALLED})
    assert sent.steps == []


@pytest.mark.parametrize(
    ("before", "sealed", "is_doubted"),
    [
        (RunState.TRANSFERRING, False, True),
        (RunState.TRANSFERRING, True, False),
        (RunState.RELEASING, False, False),
        (RunState.RELEASING, True, False),
    ],
)
def test_only_a_run_that_is_given_up_now_waits_for_what_the_repository_says(
    before: RunState, *, sealed: bool, is_doubted: bool
) -> None:
    """One that has just been sealed keeps its guests, and one that waits already is not asked about anew."""
    first = decided_run(before)
    following = first.model_copy(update={"state": RunState.RELEASING, "sealed": sealed})
    assert (seal_state.doubted(first, following).sealed is None) == is_doubted
    assert (seal_state.doubted(first, following) == following) != is_doubted
