"""The account that is checked in: no empty cell, no row over its bound."""

from __future__ import annotations

import pytest

from tests.long import LONG

from .account import earlier
from .benches import CELLS
from .bounds import EYE_S

pytestmark = pytest.mark.skipif(LONG, reason="a long run plays the cells, and writes the account when it ends")


def test_every_cell_of_every_fault_and_of_every_pair_is_in_the_account() -> None:
    played = {(row.fault, row.step) for row in earlier()}
    assert CELLS - played == set()


def test_nobody_was_held_longer_than_the_bound() -> None:
    assert [row for row in earlier() if row.held_s > row.bound_s + EYE_S] == []
