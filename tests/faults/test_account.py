"""The account that is checked in: no empty cell, no row over its bound."""

from __future__ import annotations

import pytest

from tests.long import LONG

from .account import earlier
from .bounds import EYE_S
from .kinds import KINDS, MODULAR

pytestmark = pytest.mark.skipif(LONG, reason="a long run plays the cells, and writes the account when it ends")


def test_every_cell_of_every_fault_is_in_the_account() -> None:
    played = {(row.fault, row.step) for row in earlier()}
    assert {(kind.name, step) for kind in (*KINDS, MODULAR) for step in kind.steps} - played == set()


def test_nobody_was_held_longer_than_the_bound() -> None:
    assert [row for row in earlier() if row.held_s > row.bound_s + EYE_S] == []
