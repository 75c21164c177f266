"""Ask many storages for what they are, side by side, with one bound for all answers together.

    directory a   ├ path ┤├ path ┤
    directory b   ├ path ┤├──────────── hangs ─ ─ ─ ─ ─ ─▶   what it has not told is not known; one thread waits on
    pool c        ├ volume ┤
    caller        ├────────────── patience ───────┤

A stat on a network file system whose server is away may wait for ever, and a guest in each of many directories of it is
ordinary. Questions at one place are asked one after another: what hangs costs one thread for each place, and while it does the
place is not asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from freezeframe.errors import FreezeframeError
from workers.bounded import GuestCalls, GuestHangsError

AnswerT = TypeVar("AnswerT")

#: Threads of one process for this. As many places can hang at once before others are not asked either.
_CALLS: Final = GuestCalls()


@dataclass(frozen=True)
class Question(Generic[AnswerT]):
    """A question about storage: the place that may hang, how to ask, and the answer that counts if none comes.

    Without a place that answer is known, and is not asked for.
    """

    place: str | None
    ask: Callable[[], AnswerT]
    otherwise: AnswerT


def ask_all(questions: Sequence[Question[AnswerT]], patience_s: float, calls: GuestCalls = _CALLS) -> list[AnswerT]:
    """Return the answer to each question, after `patience_s` at most; raise any error of one that is a defect."""
    deadline = time.monotonic() + patience_s
    answers: dict[int, AnswerT] = {}
    places: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        if question.place is not None:
            places.setdefault(question.place, []).append(number)
    futures: dict[str, Future[None]] = {}
    for place, numbers in places.items():
        try:
            futures[place] = calls.start(place, lambda numbers=numbers: _ask(questions, numbers, answers))  # type: ignore[misc]
        except (GuestHangsError, RuntimeError):  # an earlier question there hangs, or there is no thread
            continue
    wait(futures.values(), max(0.0, deadline - time.monotonic()))
    for place, future in futures.items():
        if future.done():
            future.result()
        else:
            calls.give_up(place, future)
    told = dict(answers)
    return [told.get(number, question.otherwise) for number, question in enumerate(questions)]


def _ask(questions: Sequence[Question[AnswerT]], numbers: Sequence[int], answers: dict[int, AnswerT]) -> None:
    for number in numbers:
        try:
            answers[number] = questions[number].ask()
        except (OSError, FreezeframeError):
            answers[number] = questions[number].otherwise
