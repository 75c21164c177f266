"""A store that is away at the moment of the seal delays it, and discards nothing (R7)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.contract.words import RunState
from freezeframe.repository.errors import RepositoryNotReadable, RepositoryNotWritable
from freezeframe.repository.store.directory import DirectoryStore
from orchestrator import look, reconcile
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import CAPTURE, hold, prepare, release, transfer
from tests.unit.repository.samples import GUEST

pytestmark = pytest.mark.case("R7")

READS, WRITES = ("get", "open", "exists", "size", "entries", "names"), ("put", "put_if_absent", "settle")


class Clock(datetime):
    """Everybody's clock, in a test's hands."""

    passed = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        assert tz is UTC
        return datetime.now(UTC) + cls.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "passed", timedelta())
    monkeypatch.setattr(look, "datetime", Clock)
    monkeypatch.setattr(reconcile, "datetime", Clock)
    return Clock


def go_away(away: pytest.MonkeyPatch, *, transient: bool = True) -> None:
    """Have every request fail, as a gateway's that is restarted, or refused."""
    for names, error in ((READS, RepositoryNotReadable), (WRITES, RepositoryNotWritable)):
        for name in names:

            def fail(*_: object, error: type[RepositoryNotReadable | RepositoryNotWritable] = error) -> None:
                raise error("The server cannot be reached.", transient=transient)

            away.setattr(DirectoryStore, name, fail)


def run_of(orchestrator: Orchestrator) -> Run:
    run, _ = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    return run


def reconcile_once(reconciler: Reconciler) -> None:
    """As it goes on for ever: sessions that were left cannot be looked for while the store is away."""
    with suppress(RepositoryNotReadable):
        reconciler.reconcile()


@pytest.mark.parametrize("transient", [True, False])
@pytest.mark.parametrize("outage", [timedelta(seconds=31), timedelta(minutes=10), timedelta(hours=7)], ids=str)
def test_a_store_that_is_away_when_a_capture_is_sealed_discards_nothing(
    orchestrator: Orchestrator,
    clock: type[Clock],
    monkeypatch: pytest.MonkeyPatch,
    outage: timedelta,
    *,
    transient: bool,
) -> None:
    """With the settings that are the defaults."""
    prepare(orchestrator)
    hold(orchestrator)
    reconciler = Reconciler(orchestrator)
    with monkeypatch.context() as away:
        transfer_first(orchestrator, away, transient=transient)
        for _ in range(10):
            clock.passed += outage / 10
            reconcile_once(reconciler)
            run = run_of(orchestrator)
            assert (run.state, run.kept, run.faults) == (RunState.SEALING, (GUEST,), ())
        assert any("The server cannot be reached" in one for one in run.warnings)
    reconcile_once(reconciler)
    run = release(orchestrator)
    assert (run.state, run.sealed, run.faults) == (RunState.DONE, True, ())
    manifest = orchestrator.repository.manifest(CAPTURE)
    assert [guest.guest_uuid for guest in manifest.guests] == [GUEST]
    assert manifest.created_at < datetime.now(UTC)


def transfer_first(orchestrator: Orchestrator, away: pytest.MonkeyPatch, *, transient: bool) -> None:
    """Have the disk stored, and the store go away before the look that seals."""
    real = Orchestrator._seal

    def seal(self: Orchestrator, run: Run, *more: object) -> Run | None:
        go_away(away, transient=transient)
        away.setattr(Orchestrator, "_seal", real)
        return real(self, run, *more)  # type: ignore[arg-type]

    away.setattr(Orchestrator, "_seal", seal)
    transfer(orchestrator)


def test_after_the_time_for_the_seal_the_guests_are_released(
    orchestrator: Orchestrator, clock: type[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(orchestrator)
    hold(orchestrator)
    with monkeypatch.context() as away:
        transfer_first(orchestrator, away, transient=True)
        clock.passed += timedelta(seconds=orchestrator.settings.seal_timeout_s + 1)
        reconcile_once(Reconciler(orchestrator))
        assert run_of(orchestrator).state is RunState.RELEASING
