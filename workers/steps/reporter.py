"""The reports of a transfer: its progress for callers, and its sign of life for the reconciler (`orchestrator/stall.py`)."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Self

import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.event import ProgressEvent
from freezeframe.contract.order import TransferOrder
from workers.bounded import NO_THREAD, NoThreadError
from workers.host import Host
from workers.steps.progress import Progress

log = structlog.get_logger("transfer")

#: Events of a run that are kept, and for how long: as the orchestrator does.
EVENTS_KEPT = 2000
EVENTS_KEEP_S = 7 * 86400
#: Seconds between two reports of progress of a transfer that has just begun, and of one that takes long: half a second of a
#: thousand hosts with two transfers each would be 24,000 commands of Redis a second. Far below `transfer_stall_s` (90 s).
REPORT_S = 0.5
LATER_S = 5.0
#: Of a transfer's time so far.
SHARE = 0.05


def pause_s(seconds: float) -> float:
    """Return how long a transfer that has taken so many seconds waits until it reports again. Pure."""
    return max(REPORT_S, min(LATER_S, seconds * SHARE))


class Reporter:
    """Report a transfer's progress in a thread of its own."""

    def __init__(self, host: Host, order: TransferOrder, progress: Progress) -> None:
        self._host = host
        self._order = order
        self._progress = progress
        self._beats = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except NO_THREAD as error:  # without its reports the orchestrator would give the transfer up, hours later
            raise NoThreadError.of(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._tell()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(pause_s(time.monotonic() - began)):
            self._tell()

    def _pulse(self) -> str:
        """Return two numbers: one changes with each piece that the source gives and each chunk that is done with, the other
        while the repository or a limit is waited for. A store that is away delays a capture, and only a transfer that waits
        for nothing and moves nothing is dead. Bytes done are no such sign: the audit does none, nor does a large chunk until
        all of it is there.
        """
        return f"{self._progress.moves} {self._beats}"

    def _tell(self) -> None:
        """Best effort: a transfer does not fail because nobody could be told how far it is."""
        order, progress = self._order, self._progress
        self._beats += progress.waits > 0
        event = ProgressEvent(
            capture_id=order.capture_id,
            at=datetime.now(UTC),
            host_id=self._host.host_id,
            guest=order.guest_name,
            target=order.target,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
            bytes_read=progress.bytes_read,
        )
        try:
            pipeline = self._host.redis.pipeline()
            events, pulse = names.events_key(order.capture_id), names.pulse_key(order.capture_id)
            pipeline.xadd(events, {"event": event.model_dump_json()}, maxlen=EVENTS_KEPT, approximate=True)
            pipeline.hset(pulse, names.pulse_field(self._host.host_id, order.part), self._pulse())
            for key in (events, pulse):
                pipeline.expire(key, EVENTS_KEEP_S)
            pipeline.execute()
        except redis.RedisError as error:
            log.warning("progress not told", why=str(error))
