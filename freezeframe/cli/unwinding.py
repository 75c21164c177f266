"""Unwinding: a verb that has begun a session ends it when it is told to end, and not only on Ctrl-C.

An open session keeps garbage collection from deleting until it expires, which takes a week.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def unwinding() -> Iterator[None]:
    """Have SIGTERM and SIGHUP leave this block as an exception does. One that is ignored, as below `nohup`, stays so."""
    given = {one: signal.getsignal(one) for one in _ENDS}
    replaced = {one: handler for one, handler in given.items() if handler not in {None, signal.SIG_IGN}}
    for one in replaced:
        signal.signal(one, _leave)
    try:
        yield
    finally:
        for one, handler in replaced.items():
            signal.signal(one, handler)


def _leave(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)  # as a shell tells it
