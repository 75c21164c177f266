"""Tell the caller of a run what its seal waits for: once for each reason, however often it is tried.

the seal fails on the storage ─▶ the reason is new to the run?  a warning in its record, an event, a line in the log
the seal does not come back   ─▶ the same, after `HANGS_S`      said before: nothing
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog

from freezeframe.bounded import NO_THREAD_ADVICE, is_shortage, no_thread_words
from freezeframe.contract.words import RunState
from freezeframe.errors import FreezeframeError
from freezeframe.repository.errors import (
    RepositoryFull,
    RepositoryNotFound,
    RepositoryNotReadable,
    RepositoryNotWritable,
)
from orchestrator import metrics
from orchestrator.defect import words_of
from orchestrator.run import Run, Runs

log = structlog.get_logger("seal")

#: How many reasons a run tells: an error's words may be new each time.
MOST_REASONS: Final = 8
#: A seal that takes longer than this is told: it reads thousands of indexes' headers at 30 ms each in object storage.
HANGS_S: Final = 120.0

#: What to do while the seal waits. The errors' own advice is for what was refused: to capture again, or to make a repository.
_ADVICE: Final = {
    RepositoryFull: "Free space there, or extend it.",
    RepositoryNotFound: "Check that its file system is mounted on the orchestrator's host.",
}
#: True also of a capture that is sealed by now, of whose receipt it is a part.
_BEGINS: Final = "The manifest had to wait for the repository at "
_HANGING: Final = "Check its mount on the orchestrator's host, and its server."


def trouble(error: Exception, address: str, due_at: datetime) -> str:
    """Return the warning that a seal failed on the storage and is tried again until `due_at`. Pure."""
    ours = isinstance(error, FreezeframeError)
    said = error.message if isinstance(error, FreezeframeError) else words_of(error)
    own = error.hint if isinstance(error, FreezeframeError) else RepositoryNotWritable.advice
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), own)
    ended = said if ours and said.endswith(".") else f"{said}."
    return _sentence(address, due_at, ended, advice)


def passing(error: Exception) -> Exception:
    """Return an error as the seal treats it: a lack of threads or memory here is trouble that is waited out. Pure."""
    if not is_shortage(error):
        return error
    made = RepositoryNotReadable(no_thread_words(error), advice=NO_THREAD_ADVICE, transient=True)
    made.__cause__ = error
    return made


def hanging(run: Run, address: str, now: datetime) -> str | None:
    """Return the warning of a run whose seal does not come back; None while that may be usual. Pure."""
    if run.state is not RunState.SEALING or now < run.entered_at + timedelta(seconds=HANGS_S):
        return None
    return _sentence(address, run.due_at, f"it has not answered for {HANGS_S:.0f} s.", _HANGING)


def _sentence(address: str, due_at: datetime, said: str, advice: str) -> str:
    return f"{_BEGINS}{address}, until {due_at:%Y-%m-%d %H:%M} UTC at the longest: {said} {advice}"


def tell(runs: Runs, run: Run, text: str) -> None:
    """Warn the callers of a run that still seals, unless it has told this, or enough. Raises redis errors."""
    metrics.RUN_TROUBLES.inc()
    loaded = runs.load(run.capture_id)
    if loaded is None or loaded[0].state is not RunState.SEALING:
        return
    known = [one for one in loaded[0].warnings if one.startswith(_BEGINS)]
    if text in known or len(known) >= MOST_REASONS:
        return
    log.warning("a seal waits for the repository", capture=run.capture_id, why=text)
    runs.warn(*loaded, text)
