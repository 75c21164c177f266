"""Any exception as the fault of one run: trouble with Redis in Redis's words, a defect as one. It costs no other run."""

from __future__ import annotations

from freezeframe import redis_fault
from freezeframe.contract.fault import Fault
from freezeframe.errors import FreezeframeError

#: Characters of an exception's own words that a fault repeats: pydantic's have a line for each field, with its value.
MOST_WORDS = 300


class UnexpectedError(FreezeframeError):
    """A defect in Freezeframe."""

    code = "unexpected"
    advice = "This is a defect; the orchestrator's log has the traceback."


def fault_of(error: Exception) -> Fault:
    """Return the fault that a run has for an exception. Pure."""
    if isinstance(error, redis_fault.TROUBLE):
        return Fault.of(redis_fault.trouble(error))
    return Fault.of(error if isinstance(error, FreezeframeError) else UnexpectedError(words_of(error)))


def words_of(error: Exception) -> str:
    """Return an exception's name and words on one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:MOST_WORDS]}{'…' if len(words) > MOST_WORDS else ''}"
