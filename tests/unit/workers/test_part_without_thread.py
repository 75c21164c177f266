"""Work of several threads of which one cannot be started: it fails as a whole, and none of the others is left at work."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.exceptions import WorkerShutdown

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.repository import commit
from freezeframe.repository.commit import CommitQueue
from freezeframe.repository.errors import RepositoryNotFound
from freezeframe.repository.store import MemoryStore
from orchestrator import app as orchestrator_app
from tests.unit.workers.test_reading import SIZE, order, served, with_settings
from tests.unit.workers.test_reading import host as host  # noqa: PLC0414  a fixture
from workers import app as host_app
from workers import instance
from workers.bounded import NoThreadError
from workers.host import Host
from workers.restore.at_once import DisksAtOnce
from workers.restore.disk import DiskPart
from workers.restore.plan import GuestPart
from workers.restore.report import RestoredDisk
from workers.steps.transfer import transfer

LONG_S = 60.0


class Short:
    """Refuses one of the threads of a name: the one after `before` others."""

    def __init__(self, name: str, before: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[threading.Thread] = []
        start = threading.Thread.start

        def started(thread: threading.Thread) -> None:
            if thread.name.startswith(name):
                if len(self.started) == before:
                    raise RuntimeError("can't start new thread")
                self.started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", started)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_transfer_leaves_no_reader_at_work(host: Host, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    """They would write into an index that nobody finishes, and read an export that is being ended."""
    short = Short("read", before, monkeypatch)
    with served(host, os.urandom(SIZE)), pytest.raises(NoThreadError, match="no further thread"):
        transfer(with_settings(host, transfer_threads=2), order())
    assert len(short.started) == before
    assert not any(thread.is_alive() for thread in short.started)


def test_a_transfer_that_cannot_be_reported_is_not_begun(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    Short("report", 0, monkeypatch)
    reading = Short("read", 99, monkeypatch)
    with served(host, os.urandom(SIZE)), pytest.raises(NoThreadError, match="no further thread"):
        transfer(host, order())
    assert reading.started == []


def test_a_batch_without_a_thread_is_every_later_call_s_error_and_holds_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever waited for its room would wait for ever, and a flush would call whole what is not."""
    monkeypatch.setattr(commit, "BATCH_BYTES", 10)
    queue = CommitQueue(MemoryStore())
    with monkeypatch.context() as patched:
        Short("", 0, patched)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            queue.add("0", b"x", 10)
    assert queue._queued_bytes == 0
    with pytest.raises(RuntimeError, match="can't start new thread"):
        queue.add("1", b"x", 1)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        queue.flush()


@dataclass(frozen=True)
class Disk:
    where: str


@dataclass
class Restoring:
    """Restores disks until it is told to stop."""

    begun: list[str] = field(default_factory=list)

    def __call__(self, disk: DiskPart, stop: threading.Event) -> RestoredDisk:
        self.begun.append(disk.where)
        assert stop.wait(LONG_S)
        return cast("RestoredDisk", disk)


def test_disks_that_are_restored_beside_one_without_a_thread_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    short, restoring = Short("restore-disk", 1, monkeypatch), Restoring()
    parts = [cast("GuestPart", SimpleNamespace(disks=(Disk("a"), Disk("b"), Disk("c"))))]
    with pytest.raises(RuntimeError, match="can't start new thread"), DisksAtOnce(parts, restoring, []):
        pytest.fail("there is no thread")
    assert len(short.started) == 1
    assert not short.started[0].is_alive()
    assert "c" not in restoring.begun


# What a worker does beside its tasks. Celery logs what a handler raises, and the worker goes on; but for a SystemExit.


def test_a_control_worker_without_one_of_its_parts_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_app, "this_host", lambda: host)
    Short("inventory", 0, monkeypatch)
    queues = SimpleNamespace(consume_from=[names.control_queue(host_app._host_id)])
    with pytest.raises(WorkerShutdown) as ended:
        host_app._begin(SimpleNamespace(app=SimpleNamespace(amqp=SimpleNamespace(queues=queues))))
    assert ended.value.code == 1  # not a success, to whoever supervises it
    assert isinstance(ended.value, SystemExit)


def test_an_orchestrator_without_its_reconciler_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator_app, "orchestrator", lambda: None)
    monkeypatch.setattr(orchestrator_app, "Reconciler", lambda _: SimpleNamespace(run_forever=lambda _: None))
    Short("reconciler", 0, monkeypatch)
    with pytest.raises(WorkerShutdown):
        orchestrator_app._begin()


def test_an_orchestrator_that_cannot_begin_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its repository may be away at just that moment: without a reconciler it would look well for ever."""

    def away() -> None:
        raise RepositoryNotFound("There is no repository.")

    monkeypatch.setattr(orchestrator_app, "orchestrator", away)
    with pytest.raises(WorkerShutdown) as ended:
        orchestrator_app._begin()
    assert ended.value.code == 1


def test_a_data_worker_that_cannot_settle_begins_all_the_same(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody would know that another worker has its queue, and orders of the one before would be lost."""

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(host_app, "this_host", lambda: host)
    monkeypatch.setattr(host_app, "settle_interrupted", fails)
    before = instance.current(host.settings.state_dir, instance.DATA)
    queues = SimpleNamespace(consume_from=[])
    host_app._begin(SimpleNamespace(app=SimpleNamespace(amqp=SimpleNamespace(queues=queues))))
    assert instance.current(host.settings.state_dir, instance.DATA) not in {"", before}


@pytest.mark.parametrize("error", [OSError(98, "Address already in use"), RuntimeError("can't start new thread")])
def test_metrics_that_cannot_be_served_keep_no_reconciler_from_beginning(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ran = threading.Event()

    def refuse(port: int, addr: str) -> None:
        assert (port, addr) == (9100, "127.0.0.1")
        raise error

    monkeypatch.setenv("FREEZEFRAME_METRICS_PORT", "9100")
    monkeypatch.setattr(orchestrator_app, "orchestrator", lambda: None)
    reconciler = SimpleNamespace(run_forever=lambda _: ran.set(), at_work=lambda: True)
    monkeypatch.setattr(orchestrator_app, "Reconciler", lambda _: reconciler)
    monkeypatch.setattr(orchestrator_app, "start_http_server", refuse)
    orchestrator_app._begin()
    assert ran.wait(LONG_S)
    for crew in orchestrator_app._crews:
        crew.end()


def test_what_is_started_beside_a_worker_s_tasks_keeps_no_process_alive() -> None:
    seen: list[Any] = []
    done = threading.Event()

    def work() -> None:
        seen.append(threading.current_thread())
        done.set()

    bus.start_beside("part", work)
    assert done.wait(LONG_S)
    assert [(one.name, one.daemon) for one in seen] == [("part", True)]
