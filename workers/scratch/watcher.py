"""The watcher: one thread in the control worker, at work as long as any backup of ours is open on the host.

    every second      the journals: which backups are open, and which are done with?   ─▶ those end
    before the room   the files' sizes and the free room: when is the floor reached?    ─▶ the fastest-growing ends
    could be half       (forecast.py; up to 50 times a second where there is little room)
    used up

Each end is a thread of its own: a libvirt call on a guest whose QEMU hangs never returns, and the other guests' room is
watched all the same. After ENDING_S without room the next backup is ended.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from workers.bounded import NO_THREAD
from workers.host import Host
from workers.journal import CaptureJournal
from workers.scratch import ending
from workers.scratch.account import occupied_bytes
from workers.scratch.forecast import ENDING_S, LONGEST_PAUSE_S, Forecast
from workers.scratch.open_backups import OpenBackup, begun_guests, is_done_with, is_dropped, open_backups

log = structlog.get_logger("scratch")

#: Seconds between two looks into the journals, and between two questions to Redis about guests that its run dropped.
JOURNALS_S = 1.0
DROPPED_S = 5.0
#: Seconds after which an end that failed is tried again.
AGAIN_S = 5.0

Key = tuple[str, str]  # capture, guest


@dataclass
class _Ending:
    """An end that is under way, or has failed."""

    thread: threading.Thread
    begun_s: float
    noticed: bool = False  # the journals were read since it was over

    def keeps_others(self, now_s: float) -> bool:
        """Return True while its room may still come back, so that no other guest's backup is ended for it."""
        return self.thread.is_alive() and now_s - self.begun_s < ENDING_S

    def is_over(self, now_s: float) -> bool:
        """Return True if it may be tried again. One that never returns is one thread, and no second is begun."""
        return not self.thread.is_alive() and now_s - self.begun_s > AGAIN_S


@dataclass
class Watcher:
    """The watcher's state between two looks."""

    host: Host
    _backups: dict[Key, OpenBackup] = field(default_factory=dict)
    _forecast: Forecast[Key] = field(default_factory=Forecast)
    _endings: dict[Key, _Ending] = field(default_factory=dict)
    _begun: dict[str, frozenset[str]] = field(default_factory=dict)  # by capture whose hold is over
    _journals_due_s: float = 0.0
    _dropped_due_s: float = 0.0

    def look(self, now_s: float) -> float:
        """Look once, and begin to end what has to end; return after how many seconds to look again."""
        if now_s >= self._journals_due_s or self._has_news():
            self._journals_due_s = now_s + JOURNALS_S
            self._read_journals(now_s)
        if not self._backups:
            return LONGEST_PAUSE_S
        free = shutil.disk_usage(self.host.settings.scratch_dir).free
        self._forecast.look(now_s, free, {key: occupied_bytes(one.scratch) for key, one in self._backups.items()})
        if not any(one.keeps_others(now_s) for one in self._endings.values()):
            chosen = self._forecast.to_end(self._endings)
            if chosen is not None:
                self._begin(chosen, ending.give_up, now_s)
        return self._forecast.pause_s()

    def _has_news(self) -> bool:
        """Return True if an end is over since the journals were read: its room is back, or will not come."""
        over = [one for one in self._endings.values() if not one.thread.is_alive() and not one.noticed]
        for one in over:
            one.noticed = True
        return bool(over)

    def _read_journals(self, now_s: float) -> None:
        self._backups = {(one.capture_id, one.guest_uuid): one for one in open_backups(self.host)}
        captures = {capture_id for capture_id, _ in self._backups}
        self._begun = {capture_id: begun for capture_id, begun in self._begun.items() if capture_id in captures}
        self._endings = {
            key: one
            for key, one in self._endings.items()
            if one.thread.is_alive() or (key in self._backups and not one.is_over(now_s))
        }
        ask_redis = now_s >= self._dropped_due_s
        if ask_redis:
            self._dropped_due_s = now_s + DROPPED_S
        for key, one in self._backups.items():
            if key not in self._endings and self._is_over(one, ask_redis=ask_redis):
                self._begin(key, ending.end, now_s)

    def _is_over(self, one: OpenBackup, *, ask_redis: bool) -> bool:
        journal = self.host.journal.of(one.capture_id)
        try:
            begun = self._begun_guests(journal)
            if begun is not None and is_done_with(journal, one, begun):
                return True
            return ask_redis and is_dropped(self.host, one)
        except (OSError, ValueError) as error:
            log.warning("cannot tell whether a backup is done with", capture=one.capture_id, why=str(error))
            return False

    def _begun_guests(self, journal: CaptureJournal) -> frozenset[str] | None:
        """Return what the hold has begun. Its result never changes, and is read once for all guests of the capture."""
        known = self._begun.get(journal.capture_id)
        if known is None and (known := begun_guests(journal)) is not None:
            self._begun[journal.capture_id] = known
        return known

    def _begin(self, key: Key, act: Callable[[Host, OpenBackup], None], now_s: float) -> None:
        one = self._backups[key]
        thread = threading.Thread(target=_attempt, args=(act, self.host, one), name=f"end-{one.guest}", daemon=True)
        try:
            thread.start()
        except NO_THREAD as error:  # the next look tries again, and other guests' backups come first or after it
            log.error("a backup cannot be ended yet", capture=one.capture_id, guest=one.guest, why=str(error))  # noqa: TRY400
        else:
            self._endings[key] = _Ending(thread, now_s)

    def wait(self) -> None:
        """Wait for the ends that are under way."""
        for under_way in list(self._endings.values()):
            under_way.thread.join()


def watch_forever(host: Host, stop: threading.Event) -> None:
    """Watch until told to stop."""
    watcher, pause_s = Watcher(host), 0.0
    while not stop.wait(pause_s):
        try:
            pause_s = watcher.look(time.monotonic())
        except Exception:
            log.exception("the scratch files could not be looked at")  # the next look may find them again
            pause_s = LONGEST_PAUSE_S


def _attempt(act: Callable[[Host, OpenBackup], None], host: Host, one: OpenBackup) -> None:
    try:
        act(host, one)
    except Exception as error:
        log.exception("a backup was not ended", capture=one.capture_id, guest=one.guest, why=str(error))
