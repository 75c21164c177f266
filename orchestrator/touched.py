"""Exit codes of faults that came when guests had been held: "refused" says that nothing was touched. Pure.

A disk that was attached, or storage that another guest writes to, is one error whether it is found before the hold or after
it. To scripts these are two things: after a refusal a capture may be tried again at no cost to any guest. So a capture that
fails after its hold has no fault that says "refused", not even of a guest that was refused before it (policy `degrade`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import RunState
from freezeframe.errors import EXIT_FAILED, EXIT_REFUSED
from orchestrator.run import Run

#: Codes of an answer that does not say what the hold had done: its worker died in it, or its words are not read here.
_UNTOLD = frozenset({"interrupted", "unreadable-answer"})


def after_holding(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return the faults, with "failed" in place of "refused"."""
    return tuple(
        one.model_copy(update={"exit_code": EXIT_FAILED}) if one.exit_code == EXIT_REFUSED else one for one in faults
    )


def held_any(results: Iterable[HoldResult]) -> bool:
    """Return True if a host tells of a guest that it has begun to hold, or its answer does not say."""
    return any(_has_begun(result) or not _UNTOLD.isdisjoint(_codes(result)) for result in results)


def _has_begun(result: HoldResult) -> bool:
    return result.proof is not None and any(guest.hold_start_ns is not None for guest in result.proof.guests)


def _codes(result: HoldResult) -> set[str]:
    faults = [result.fault, *(one.fault for one in result.guest_faults)]
    return {fault.code for fault in faults if fault is not None}


def failed(run: Run, results: Sequence[HoldResult]) -> Run:
    """Return a run as it ends: if it has failed, and guests were or may have been held, no fault of it says "refused"."""
    silent = set(run.members) - {result.host_id for result in results}
    if run.state is not RunState.FAILED or not (silent or held_any(results)):
        return run
    return run.model_copy(update={"faults": after_holding(run.faults)})
