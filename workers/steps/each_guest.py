"""Work on each guest of a capture by itself: a guest that hangs is left behind, and delays no other.

    guest a  ├── its work ──┤
    guest b  ├──────────── hangs ─ ─ ─ ─ ─ ─ ─ ─ ─ ─▶   its thread waits on, and does the rest when the call returns
    guest c  ├── its work ──┤
    caller   ├──────────────────── patience ─────────┤  told: a and c are done, b has no answer

Some guests are worked on side by side; one that takes long no longer counts among them, so that those behind it come on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

from workers.bounded import NO_THREAD, GuestCalls, GuestHangsError

ResultT = TypeVar("ResultT")

#: Guests that are worked on side by side; most of it is waiting for libvirt and agents.
SIDE_BY_SIDE = 16
#: Seconds after which a guest's work no longer keeps those behind it waiting.
LATE_S = 2.0


def each_guest(
    calls: GuestCalls, guests: Sequence[str], purpose: str, patience_s: float, work: Callable[[str], ResultT]
) -> dict[str, ResultT | Exception]:
    """Return for each guest what `work` returns or raises; GuestHangsError if that takes longer than `patience_s` in all.

    One of `NO_THREAD` for a guest whose work no thread can be started for.

    `purpose` says in the error what has not ended, as in `preparing it`.
    """
    deadline = time.monotonic() + patience_s
    waiting = deque(guests)
    at_work: dict[Future[ResultT], tuple[str, float]] = {}
    answers: dict[str, ResultT | Exception] = {}
    while (waiting or at_work) and (now := time.monotonic()) < deadline:
        while waiting and sum(now - began < LATE_S for _, began in at_work.values()) < SIDE_BY_SIDE:
            guest = waiting.popleft()
            try:
                at_work[calls.start(f"{guest}, {purpose}", lambda guest=guest: work(guest))] = (guest, now)  # type: ignore[misc]
            except (GuestHangsError, *NO_THREAD) as error:  # an earlier call hangs, or no thread can be started
                answers[guest] = error
        until = deadline - now
        if waiting:
            until = min([until, *(LATE_S - now + began for _, began in at_work.values() if now - began < LATE_S)])
        for future in wait(at_work, max(0.0, until), FIRST_COMPLETED).done:
            guest, _ = at_work.pop(future)
            answers[guest] = _answer(future)  # type: ignore[arg-type]
    for future, (guest, _) in at_work.items():
        calls.give_up(f"{guest}, {purpose}", future)
        answers[guest] = GuestHangsError(f"{purpose.capitalize()} has not ended within {patience_s:g} s.")
    answers.update({guest: GuestHangsError(f"{purpose.capitalize()} did not get its turn.") for guest in waiting})
    return answers


def _answer(future: Future[ResultT]) -> ResultT | Exception:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, Exception):
        return error
    raise error
