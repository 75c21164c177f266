"""Every part, at every step: killed, stopped, cut off."""

from __future__ import annotations

from typing import Any

import pytest

from .bench import Bench
from .cell import play
from .kinds import KINDS, Kind

#: Played by `ops/test` too, at the hold, or at their only step. Others have not been the same each time on a busy machine:
#: those that need to see a guest frozen, and those in which libvirt itself does not come back as it was (docs/faults.md).
#: Worker and guard are killed in cells of `test_holds`, each in a harder moment than these would be.
ALWAYS = {
    "orchestrator killed",
    "Redis killed, back empty",
    "task's process killed",
}


def _marks(kind: Kind, step: str) -> Any:
    usual = kind.name in ALWAYS and (step == "held" or len(kind.steps) == 1)
    cell = pytest.mark.cell(kind.name, step)
    return cell if usual else (cell, pytest.mark.long)


def _cells() -> list[Any]:
    return [
        pytest.param(kind, step, id=f"{kind.name} at {step}".replace(" ", "-"), marks=_marks(kind, step))
        for kind in KINDS
        for step in kind.steps
    ]


@pytest.mark.parametrize(("kind", "step"), _cells())
def test_fault(bench: Bench, kind: Kind, step: str) -> None:
    """Nothing stays held, all is left as it was found, and the next increment is right (invariants 1, 2, 4, 5, 7)."""
    play(bench, kind, step)
