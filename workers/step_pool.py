"""The control worker's threads: some for each step, so that a hold or a release never waits for a prepare.

    queue host.X.control   prepare ─▶ 16 threads
    queue host.X.hold      hold    ─▶ 16 threads     one Celery worker reads both queues, without a bound on what it has taken:
                           release ─▶ 16 threads     else prepares that wait for a thread would keep it from reading on

A repository or an agent that hangs keeps prepares for minutes, and the hosts of a capture wait a minute for each other at the
muster. One process, because a third worker would be one more part to start, to watch and to connect to Redis, with a libvirt
connection, an inventory and locks of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool

from freezeframe.contract import names
from freezeframe.contract.words import Step

#: Where Celery finds the pool (`worker_pool`).
NAME = f"{__name__}:StepPool"


class StepPool(TaskPool):  # type: ignore[misc]  # celery has no types
    """Celery's pool of threads, with threads apart for holds and for releases."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._apart = {names.STEP_TASKS[step]: ThreadPoolExecutor(self.limit) for step in (Step.HOLD, Step.RELEASE)}

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: object,
    ) -> ApplyResult:
        """Start a task in a thread of its step. The first argument is the task's name. [celery/worker/request.py]"""
        executor: ThreadPoolExecutor = self._apart.get(args[0] if args else "") or self.executor
        return ApplyResult(executor.submit(apply_target, target, args, kwargs, callback, accept_callback))

    def on_stop(self) -> None:
        """Wait for the tasks in hand; drop those that have not begun."""
        for executor in self._apart.values():
            executor.shutdown(cancel_futures=True)
        super().on_stop()
