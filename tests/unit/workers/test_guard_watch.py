"""When a guard's watch says that it lacks threads, and when it gives itself up."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from workers.guard.lease import LeaseFiles
from workers.guard.ledger import Ledger
from workers.guard.watch import READY_THREADS, STUCK_S, Watch
from workers.hypervisor.connection import Hypervisor


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tmp_path: Path, clock: Clock) -> Watch:
    return Watch(Ledger(LeaseFiles(tmp_path), lambda *_: False, clock), Hypervisor("test:///default"))


@pytest.mark.parametrize(
    ("calls", "asks", "told"),
    [
        (READY_THREADS, READY_THREADS, []),
        (READY_THREADS, 3, [3]),
        (0, READY_THREADS, [0]),
        (5, 2, [2]),
    ],
)
def test_the_pool_with_the_fewest_threads_is_told_of(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, calls: int, asks: int, told: list[int]
) -> None:
    """A look needs one of each."""
    monkeypatch.setattr(watch.calls, "keep_ready", {READY_THREADS: calls}.__getitem__)
    monkeypatch.setattr(watch.asks, "keep_ready", {READY_THREADS: asks}.__getitem__)
    with structlog.testing.capture_logs() as lines:
        watch.keep_ready()
    assert [line["ready"] for line in lines] == told


def test_a_watch_gives_itself_up_once_no_look_could_begin_for_so_long(watch: Watch, clock: Clock) -> None:
    watch._stuck_since = clock()
    for seconds, at_work in ((0.0, True), (STUCK_S - 0.5, True), (STUCK_S, False), (STUCK_S + 1, False)):
        clock.now_s = 1000.0 + seconds
        assert watch.at_work() == at_work
