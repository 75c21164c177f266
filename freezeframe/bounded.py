"""Calls that may never come back, bounded from outside: a thread waits for the call, the caller waits no longer than it says.

call ─▶ a thread ─▶ an answer                       return or raise what the call returns or raises
└▶ none in time         an error; the thread goes on waiting, nothing can end it
call while one such still waits                     the same error at once: threads must not pile up

For repositories: a network file system whose server is away blocks in the kernel for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from typing import Final, TypeVar

from freezeframe.repository.errors import RepositoryNotReadable

ResultT = TypeVar("ResultT")

_ADVICE = (
    "A network file system whose server is away makes every process wait that touches it: check the mount on this host and its "
    "server. What waits goes on by itself when the server is back."
)

#: What `Thread.start` raises where there is no thread, or no memory for one. [CPython Modules/_threadmodule.c]
NO_THREAD: Final = (RuntimeError, MemoryError)
NO_THREAD_ADVICE: Final = (
    "Something on this host uses up threads or memory. Compare `ps -eLf | wc -l` with /proc/sys/kernel/threads-max, and "
    "look at the limits of the unit or container (TasksMax, pids.max) and at `free`. What was refused may be tried again."
)

_hung: dict[str, list[threading.Thread]] = {}
_lock = threading.Lock()


def answered(what: str, patience_s: float, call: Callable[[], ResultT]) -> ResultT:
    """Return what `call` returns, or raise what it raises.

    Raises RepositoryNotReadable if that takes longer than `patience_s`, or cannot be begun.

    `what` is named in the error, and is what an earlier call hangs for.
    """
    with _lock:
        waiting = _hung[what] = [thread for thread in _hung.get(what, []) if thread.is_alive()]
    if waiting:
        raise _no_answer(f"{what} has not answered for a while, and an earlier capture still waits for it.")
    future: Future[ResultT] = Future()
    thread = threading.Thread(target=_run, args=(call, future), name="bounded", daemon=True)
    try:
        thread.start()
    except NO_THREAD as error:
        message = f"{what} was not asked. {no_thread_words(error)}"
        raise RepositoryNotReadable(message, advice=NO_THREAD_ADVICE, transient=True) from error
    try:
        return future.result(patience_s)
    except NoAnswer as error:
        if future.done():  # the call's own
            raise
        with _lock:
            _hung[what].append(thread)
        raise _no_answer(f"{what} has not answered for {patience_s:.0f} s.") from error


def no_thread_words(error: Exception) -> str:
    """Return what to say of an error that Python raises where a thread cannot be started."""
    return f"This host gives Freezeframe no further thread ({str(error) or type(error).__name__})."


def is_shortage(error: BaseException) -> bool:
    """Return True if this host lacked memory or a thread: nothing else is wrong, and the same may work in a while. Pure."""
    no_thread = type(error) is RuntimeError and "can't start new thread" in str(
        error
    )  # [CPython Modules/_threadmodule.c]
    return no_thread or isinstance(error, MemoryError)


def _run(call: Callable[[], ResultT], future: Future[ResultT]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  raised where it was called
        future.set_exception(error)


def _no_answer(message: str) -> RepositoryNotReadable:
    return RepositoryNotReadable(message, advice=_ADVICE, transient=True)
