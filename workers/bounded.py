"""Calls on guests that may never come back, bounded from outside, as `freezeframe/bounded.py` does for repositories.

A libvirt call that reaches QEMU's monitor has no time-out of its own, and QEMU answers nothing while it is suspended or waits
for storage. [libvirt src/qemu/qemu_monitor.c: qemuMonitorSend waits without a time limit]
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from freezeframe.bounded import NO_THREAD, NO_THREAD_ADVICE, no_thread_words
from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError

__all__ = [
    "IDLE_THREADS",
    "MOST_THREADS",
    "NO_THREAD",
    "GuestCalls",
    "GuestHangsError",
    "NoThreadError",
    "NotStartedError",
    "ThreadsInUseError",
]

ResultT = TypeVar("ResultT")

#: Threads that calls on the guests of one process may use together. Two for each guest of a hold of 200 guests, and as many
#: again for calls that hang. A thread that waits costs some 20 KiB of memory.
MOST_THREADS = 1024
#: Threads that stay for the next call; creating one takes some 50 us, which a hold window need not contain.
IDLE_THREADS = 256


class GuestHangsError(FreezeframeError):
    """A call on a guest has not returned in its time, or could not be made."""

    code = "guest-hangs"
    exit_code = EXIT_UNREACHABLE
    advice = (
        "QEMU or libvirt does not answer for this guest: its QEMU is suspended, or waits for storage that is away. "
        "Look at its QEMU process (`ps -o pid,stat,wchan,args -C qemu-system-x86_64`) and at the storage of its disks."
    )


class NotStartedError(GuestHangsError):
    """A call on a guest was not made: there is no thread for it."""


class ThreadsInUseError(NotStartedError):
    """Every thread that calls on guests may use waits for an answer: only calls that return can help, or a new process."""

    code = "threads-in-use"
    advice = "libvirt, or the QEMU of many guests of this host, does not answer. Look at libvirtd first."


class NoThreadError(NotStartedError, RuntimeError):
    """The operating system gives this process no further thread: the RuntimeError of `Thread.start`, with advice."""

    code = "no-thread"
    advice = NO_THREAD_ADVICE

    @classmethod
    def of(cls, error: Exception) -> NoThreadError:
        """Return the error for what Python raises where a thread cannot be started."""
        return cls(no_thread_words(error))


@dataclass
class _Job:
    key: str
    call: Callable[[], Any]
    future: Future[Any]


class GuestCalls:
    """A bounded pool of daemon threads for calls on guests. Threads may share one.

    A *key* names the calls of which one alone may hang: a guest's UUID, or a guest's UUID and a purpose. While a call that was
    given up still waits, further calls under its key are refused at once: a guest that hangs costs one thread for each key.
    """

    def __init__(self, most_threads: int = MOST_THREADS) -> None:
        self._most = most_threads
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job]] = []
        self._threads = 0
        self._given_up: dict[str, set[Future[Any]]] = {}

    @property
    def threads(self) -> int:
        """Return the number of threads that exist, at work or idle."""
        with self._lock:
            return self._threads

    def is_full(self) -> bool:
        """Return True while no further call can start: every thread that there may be is at work."""
        with self._lock:
            return not self._idle and self._threads >= self._most

    def is_hanging(self, key: str) -> bool:
        """Return True if a call under `key` was given up and has not returned."""
        with self._lock:
            return bool(self._given_up.get(key))

    def keep_ready(self, count: int) -> int:
        """Start threads until `count` are idle, for a time when the host gives none; return how many are."""
        while True:
            with self._lock:
                if len(self._idle) >= count or self._threads >= self._most:
                    return len(self._idle)
                self._threads += 1
            try:
                queue = self._new_thread()
            except NoThreadError:
                with self._lock:
                    return len(self._idle)
            with self._lock:
                self._idle.append(queue)

    def start(self, key: str, call: Callable[[], ResultT]) -> Future[ResultT]:
        """Start `call` in a thread. Raises GuestHangsError if an earlier call under `key` hangs, or no thread can be had."""
        future: Future[ResultT] = Future()
        future.set_running_or_notify_cancel()
        queue = self._place(key)
        if queue is None:
            queue = self._new_thread()
        queue.put(_Job(key, call, future))
        return future

    def _place(self, key: str) -> SimpleQueue[_Job] | None:
        """Return the queue of a thread that is idle; None if a new one may be started, which is counted then."""
        with self._lock:
            if self._given_up.get(key):
                raise GuestHangsError(f"An earlier call on guest {key} has not returned.")
            if self._idle:
                return self._idle.pop()
            if self._threads >= self._most:
                raise ThreadsInUseError(f"All {self._most} threads for calls on guests are in use.")
            self._threads += 1
        return None

    def _new_thread(self) -> SimpleQueue[_Job]:
        """Start the thread that was counted; one that cannot be started is counted no more."""
        queue: SimpleQueue[_Job] = SimpleQueue()
        try:
            threading.Thread(target=self._work, args=(queue,), name="guest-call", daemon=True).start()
        except BaseException as error:
            with self._lock:
                self._threads -= 1
            if isinstance(error, NO_THREAD):
                raise NoThreadError.of(error) from error
            raise
        return queue

    def give_up(self, key: str, future: Future[Any]) -> None:
        """Stop waiting for a started call. Until it returns, further calls under `key` are refused."""
        with self._lock:
            if not future.done():
                self._given_up.setdefault(key, set()).add(future)

    def answered(self, key: str, what: str, patience_s: float, call: Callable[[], ResultT]) -> ResultT:
        """Return or raise what `call` does. Raises GuestHangsError if that takes longer than `patience_s`.

        `what` says in the error what was tried, as in `Asking guest alpha for its state`.
        """
        future = self.start(key, call)
        try:
            return future.result(patience_s)
        except NoAnswer as error:
            if future.done():  # the call's own
                raise
            self.give_up(key, future)
            raise GuestHangsError(f"{what} has not ended within {patience_s:g} s.") from error

    def _work(self, queue: SimpleQueue[_Job]) -> None:
        while True:
            job = queue.get()
            result, failure = None, None
            try:
                result = job.call()
            except BaseException as error:  # noqa: BLE001  raised where it was called
                failure = error
            stays = self._return(job, queue, result, failure)
            del job, result, failure  # an idle thread must keep nothing alive: not a connection, not a traceback
            if not stays:
                return

    def _return(self, job: _Job, queue: SimpleQueue[_Job], result: object, failure: BaseException | None) -> bool:
        """Give the caller its answer; return True if the thread is kept for another call.

        All under the lock: a caller that continues finds this thread idle, and `give_up` finds the call ended or still at work.
        """
        with self._lock:
            waiting = self._given_up.get(job.key, set())
            waiting.discard(job.future)
            if not waiting:
                self._given_up.pop(job.key, None)
            stays = len(self._idle) < IDLE_THREADS
            if stays:
                self._idle.append(queue)
            else:
                self._threads -= 1
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)
            return stays
