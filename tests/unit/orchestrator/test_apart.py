"""A repository that hangs costs the runs that ask it: the others are looked at, and those end when their time is over."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import redis

from freezeframe import bounded, bus
from freezeframe.contract import names
from freezeframe.contract.words import RunState
from freezeframe.repository import Manifest, Repository, Sessions
from freezeframe.repository.errors import SessionLost
from freezeframe.settings import BusSettings
from orchestrator import apart as apart_module
from orchestrator import look, reconcile, seal_state, sessions
from orchestrator.apart import Apart
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from tests.unit.orchestrator.one_run import CAPTURE, Sent, hold, prepare, release, transfer
from tests.unit.orchestrator.test_trouble import OTHER, other_run, past, run_of


class Server:
    """A file server that is away: who asks it waits until it is back."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.waiting: list[threading.Thread] = []

    def hang(self, *_: object, **__: object) -> Any:
        self.waiting.append(threading.current_thread())
        self.back.wait()
        raise OSError(5, "Input/output error")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(reconcile, "LOOK_S", 1.0)  # many times what a look takes here, and half of it too
    monkeypatch.setattr(look, "SEAL_S", 0.05)
    for module in (seal_state, sessions):
        monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    try:
        yield made
    finally:
        made.back.set()
        looks = [thread for thread in threading.enumerate() if thread.name == "apart"]  # they have Redis still to ask
        for thread in (*made.waiting, *looks):
            thread.join()


def sealing(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """Bring the run to its seal, of which the first attempt fails, and let the store hang from then on."""
    prepare(orchestrator)
    hold(orchestrator)

    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Repository, "seal", full)
    assert transfer(orchestrator).state is RunState.SEALING
    for name in ("seal", "is_sealed"):
        monkeypatch.setattr(Repository, name, server.hang)
    monkeypatch.setattr(Sessions, "all", server.hang)


def test_a_seal_that_hangs_keeps_no_other_run_from_its_look(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    sealing(orchestrator, monkeypatch, server)
    other_run(orchestrator)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    assert (run_of(orchestrator).state, run_of(orchestrator, OTHER).state) == (RunState.SEALING, RunState.HOLDING)
    asked = len(server.waiting)
    reconciler.reconcile()
    assert len(server.waiting) == asked  # what hangs is not begun again beside itself


def test_sessions_that_hang_keep_no_run_from_its_look(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr(Sessions, "all", server.hang)
    prepare(orchestrator)
    reconciler = Reconciler(orchestrator)
    reconciler.reconcile()
    other_run(orchestrator)
    reconciler.reconcile()
    assert run_of(orchestrator, OTHER).state is RunState.HOLDING


def test_a_run_whose_seal_hangs_ends_when_its_time_is_over(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, sent: Sent, server: Server
) -> None:
    """Hosts are told, keep the new checkpoints, and the caller learns that it is not known."""
    sealing(orchestrator, monkeypatch, server)
    past(orchestrator)
    run = orchestrator.look(CAPTURE)
    assert run is not None
    assert (run.state, run.sealed) == (RunState.RELEASING, None)
    assert [getattr(order, "sealed_guests", ()) for order in sent.orders] == [None]
    past(orchestrator)
    run = release(orchestrator)
    assert run.state is RunState.FAILED
    assert run.faults[-1].code == "seal-unknown"


@pytest.mark.parametrize("sealed", [True, False])
def test_hosts_have_their_time_for_the_release_after_a_seal_that_took_long(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, *, sealed: bool
) -> None:
    """Or each of them was silent at the first look, and a warning of the receipt says that it did not answer in time."""
    clock = Clock()
    monkeypatch.setattr(look, "datetime", clock)
    seal = Repository.seal

    def slowly(self: Repository, manifest: Manifest) -> None:
        clock.ahead += timedelta(minutes=10)
        if not sealed:
            raise SessionLost("The session is gone.")
        seal(self, manifest)

    monkeypatch.setattr(Repository, "seal", slowly)
    prepare(orchestrator)
    hold(orchestrator)
    run = transfer(orchestrator)
    assert (run.state, run.sealed) == (RunState.RELEASING, sealed)
    assert release(orchestrator).warnings == ()


class Clock:
    """`datetime`, of which the time can be set ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self, zone: tzinfo) -> datetime:
        return datetime.now(zone) + self.ahead


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail


def test_what_is_done_apart_is_answered_as_if_it_was_done_here() -> None:
    apart = Apart()
    assert apart.do("a", lambda: 7, 60.0) == 7
    for error in (redis.ConnectionError("away"), TimeoutError("its own")):
        with pytest.raises(type(error), match=str(error)):
            apart.do("a", raising(error), 60.0)


def test_work_that_has_ended_is_done_again(server: Server) -> None:
    apart = Apart()
    assert apart.do("a", server.hang, 0.05) is None
    assert apart.do("a", lambda: 7, 60.0) is None
    assert apart.do("b", lambda: 7, 60.0) == 7
    server.back.set()
    server.waiting[0].join()
    assert apart.do("a", lambda: 7, 60.0) == 7


def test_a_hundred_looks_that_hang_keep_the_next_run_waiting_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their patience together is that of five, and not of a hundred."""
    waited: list[float] = []
    go_on = threading.Event()

    class Unanswered(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            waited.append(timeout or 0.0)
            raise TimeoutError

    monkeypatch.setattr(apart_module, "Future", Unanswered)
    apart = Apart()
    for number in range(100):
        assert apart.do(str(number), go_on.wait, 5.0) is None
    go_on.set()
    assert waited[:2] == [5.0, 2.5]
    assert sum(waited) < 6 * 5.0


@pytest.mark.parametrize("error", bounded.NO_THREAD)
def test_without_a_thread_it_is_done_all_the_same(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> NoReturn:
        raise error("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Apart().do("a", lambda: 7, 60.0) == 7


def test_a_loop_that_comes_on_is_at_work_and_one_that_stands_is_not(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor kills it then: nobody else ends runs that are late."""
    now = 1000.0
    monkeypatch.setattr("orchestrator.reconcile.time", SimpleNamespace(monotonic=lambda: now))
    reconciler = Reconciler(orchestrator)
    pause = orchestrator.settings.reconcile_interval_s
    now += reconciler.stands_s + pause - 0.1
    assert reconciler.at_work()
    reconciler.reconcile()
    now += reconciler.stands_s + pause - 0.1
    assert reconciler.at_work()
    now += 0.2
    assert not reconciler.at_work()


def test_each_run_that_is_looked_at_is_a_sign_of_life(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may take its time with each of many runs."""
    now = 1000.0
    seen: list[bool] = []
    monkeypatch.setattr("orchestrator.reconcile.time", SimpleNamespace(monotonic=lambda: now))
    reconciler = Reconciler(orchestrator)

    def do(self: Apart, name: str, call: object, patience_s: float) -> None:
        nonlocal now
        seen.append(reconciler.at_work())
        now += reconciler.stands_s - 1

    monkeypatch.setattr(Apart, "do", do)
    orchestrator.redis.sadd(names.ACTIVE_RUNS_KEY, "01KAAAAAAAAAAAAAAAAAAAAAA1", "01KAAAAAAAAAAAAAAAAAAAAAA2")
    reconciler.reconcile()
    assert seen[:3] == [True] * 3


@pytest.mark.parametrize("timeout_s", [0.5, 5.0, 60.0])
def test_a_loop_that_waits_for_a_dead_redis_does_not_stand_still(orchestrator: Orchestrator, timeout_s: float) -> None:
    """With all its tries one command takes minutes; with the longest time-out it was killed in each outage."""
    settings = BusSettings.model_validate({"redis_url": "redis://127.0.0.1:1/0", "redis_timeout_s": timeout_s})
    with contextlib.closing(bus.connect(settings)) as client:
        reconciler = Reconciler(Orchestrator(**{**vars(orchestrator), "redis": client}))
    tries = 4  # each of which connects, with as many tries
    assert reconciler.stands_s > tries * timeout_s + tries * tries * timeout_s


def test_each_run_whose_disks_are_read_is_a_sign_of_life(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("orchestrator.reconcile.time", SimpleNamespace(monotonic=lambda: now))
    prepare(orchestrator)
    hold(orchestrator)
    reconciler = Reconciler(orchestrator)
    seen: list[bool] = []
    real = Apart.do

    def do(self: Apart, name: str, call: Callable[[], object], patience_s: float) -> object:
        nonlocal now
        seen.append(reconciler.at_work())
        found = real(self, name, call, patience_s)
        now += reconciler.stands_s + orchestrator.settings.reconcile_interval_s + 1
        return found

    monkeypatch.setattr(Apart, "do", do)
    reconciler.reconcile()
    assert seen == [True] * 4  # the look, its pulses, its stalls, and left sessions
