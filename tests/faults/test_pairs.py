"""Two faults in one capture: every pair of parts that a hold depends on, each killed and suspended."""

from __future__ import annotations

from typing import Any

import pytest

from .bench import Bench
from .pairs import play_pair
from .two import AT_ONCE, PAIRS, Fault, Pair, Part, Way

#: Played by `ops/test` too: nobody can let a guest go for a while, and no worker dies, so that no lease outlives the hold.
ALWAYS = {
    Pair(Fault(Part.CONTROL, Way.SUSPENDED), Fault(Part.GUARD, Way.SUSPENDED), AT_ONCE),
}


def _cell(pair: Pair) -> Any:
    marks = [pytest.mark.cell(*pair.cell)] + ([] if pair in ALWAYS else [pytest.mark.long])
    return pytest.param(pair, id=f"{pair.name} {pair.step}".replace(", ", " ").replace(" ", "-"), marks=marks)


@pytest.mark.parametrize("pair", [_cell(pair) for pair in PAIRS])
def test_two_faults(bench: Bench, pair: Pair) -> None:
    """Nothing stays held, all is left as it was found, and the next increment is right (invariants 1, 2, 4, 5, 7)."""
    play_pair(bench, pair)
