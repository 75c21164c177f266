"""Work on runs, one after the other, of which none keeps the next waiting for long.

    work ─▶ a thread ─▶ done                                   its answer
                   └──▶ not within the patience                None: the thread goes on, and the next run has its turn
    work of a name that is still at work                       None, at once

A look seals and asks the repository. A network file system whose server is away makes that wait in the kernel for ever, and a
large manifest in slow storage takes minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from typing import TypeVar

import structlog

from freezeframe.bounded import NO_THREAD

log = structlog.get_logger("reconcile")

ResultT = TypeVar("ResultT")


class Apart:
    """Remembers what is still at work. For one caller: it is not asked from several threads."""

    def __init__(self) -> None:
        self._at_work: dict[str, threading.Thread] = {}

    def do(self, name: str, call: Callable[[], ResultT], patience_s: float) -> ResultT | None:
        """Return or raise what `call` does; None if that takes longer, or work of this name still goes on.

        While other work hangs the patience is less, a half, a third …: a hundred runs whose seals hang take 26 s and not 500.

        Where there is no thread it is done here, however long it takes.
        """
        self._at_work = {one: thread for one, thread in self._at_work.items() if thread.is_alive()}
        if name in self._at_work:
            return None
        future: Future[ResultT] = Future()
        thread = threading.Thread(target=_run, args=(call, future), name="apart", daemon=True)
        try:
            thread.start()
        except NO_THREAD:
            return call()
        try:
            return future.result(patience_s / (1 + len(self._at_work)))
        except NoAnswer:
            if future.done():  # just now; or the time-out is the call's own
                return future.result()
        log.warning("this takes long; others have their turn meanwhile", what=name, seconds=patience_s)
        self._at_work[name] = thread
        return None


def _run(call: Callable[[], ResultT], future: Future[ResultT]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  raised where it was called
        future.set_exception(error)
