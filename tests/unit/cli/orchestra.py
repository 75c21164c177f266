"""A fake orchestrator: takes a request from the real queue and writes to the run's stream whatever the test wants told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import redis

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.event import EndEvent, ProgressEvent, StateEvent, WarningEvent
from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import LeftOutGuest
from freezeframe.contract.request import CaptureRequest, HeldGuest, Receipt, SkippedGuestDisk
from freezeframe.contract.words import Consistency, RunState
from freezeframe.settings import BusSettings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

Told = StateEvent | WarningEvent | ProgressEvent | EndEvent | str
Score = Callable[[CaptureRequest], Sequence[Told]]


@contextmanager
def orchestra(settings: BusSettings, score: Score) -> Iterator[queue.Queue[dict[str, Any]]]:
    """Answer one request with the events of `score`; what was on the queue, headers and all, is in the queue given."""
    taken: queue.Queue[dict[str, Any]] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=_play, args=(settings, score, taken, stop), name="orchestra")
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join()


def _play(settings: BusSettings, score: Score, taken: queue.Queue[dict[str, Any]], stop: threading.Event) -> None:
    client = bus.connect(settings)
    with (
        bus.celery_app("orchestrator", settings).connection_for_read() as connection,
        connection.SimpleQueue(names.ORCHESTRATOR_QUEUE) as waiting,
    ):
        while not stop.is_set():
            try:
                message = waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            message.ack()
            request = CaptureRequest.model_validate(message.payload[0][0])
            taken.put({"request": request, "not_after_us": message.payload[0][1], **message.headers})
            _tell(client, request, score(request))
            break
    client.close()


def _tell(client: redis.Redis, request: CaptureRequest, events: Sequence[Told]) -> None:
    """In one go: to who follows, a pause without a run's record is a run that was lost, and here is no record."""
    with client.pipeline(transaction=True) as together:
        for told in events:
            text = told if isinstance(told, str) else told.model_dump_json()
            together.xadd(names.events_key(request.capture_id), {"event": text})
        together.execute()


def state(request: CaptureRequest, wanted: RunState) -> StateEvent:
    return StateEvent(capture_id=request.capture_id, at=NOW, state=wanted)


def progress(request: CaptureRequest, done: int) -> ProgressEvent:
    return ProgressEvent(
        capture_id=request.capture_id,
        at=NOW,
        host_id="host-a.example",
        guest="db1",
        target="vda",
        bytes_done=done,
        bytes_total=1 << 20,
        bytes_read=done // 2,
    )


def end(
    request: CaptureRequest,
    wanted: RunState,
    *faults: Fault,
    warnings: tuple[str, ...] = (),
    skipped: tuple[SkippedGuestDisk, ...] = (),
    left_out: tuple[LeftOutGuest, ...] = (),
) -> EndEvent:
    done = wanted is RunState.DONE
    held = HeldGuest(guest="db1", host="host-a.example", hold_ms=83.4, consistency=Consistency.GROUP)
    receipt = Receipt(
        capture_id=request.capture_id,
        state=wanted,
        asked_at=NOW,
        ended_at=NOW,
        consistency=Consistency.GROUP if done else None,
        guests=(held,) if done else (),
        skipped_disks=skipped,
        left_out=left_out,
        bytes_read=5 << 20,
        bytes_stored=1 << 20,
        faults=faults,
        warnings=warnings,
    )
    return EndEvent(capture_id=request.capture_id, at=NOW, receipt=receipt)
