"""Exit codes of faults that came when guests had been held: "refused" says that nothing was touched. Pure.

A disk that was attached, or storage that another guest writes to, is one error whether it is found before the hold or after
it. To scripts these are two things: after a refusal a capture may be tried again at no cost to any guest.
"""

from __future__ import annotations

from collections.abc import Iterable

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import HoldResult
from freezeframe.errors import EXIT_FAILED, EXIT_REFUSED


def after_holding(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return the faults, with "failed" in place of "refused"."""
    return tuple(
        one.model_copy(update={"exit_code": EXIT_FAILED}) if one.exit_code == EXIT_REFUSED else one for one in faults
    )


def held_any(results: Iterable[HoldResult]) -> bool:
    """Return True if a host tells of a guest that it has begun to hold."""
    guests = (guest for result in results if result.proof for guest in result.proof.guests)
    return any(guest.hold_start_ns is not None for guest in guests)
