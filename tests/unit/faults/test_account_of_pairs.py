"""The account of the faults: its squares of pairs, its old rows, and which cells a run plays again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.account import STOCK_SINCE, Account, Row
from tests.faults.again import is_due
from tests.faults.two import AT_ONCE, IN_TURN, PAIRS, Pair

ROW = Row("control killed", "held", "sealed, group", 1.0, 7.0, 0.0, "incremental, identical", "2026-11-27 05:00")


def row_of(pair: Pair, outcome: str) -> Row:
    return replace(ROW, fault=pair.name, step=pair.step, outcome=outcome)


def text(*rows: Row) -> str:
    account = Account({(row.fault, row.step) for row in rows})
    account.rows = list(rows)
    return account.text()


def test_a_row_is_read_as_it_was_written() -> None:
    assert Row.parse(ROW.line) == ROW
    pair = row_of(PAIRS[0], "not-proven")
    assert Row.parse(pair.line) == pair


def test_two_at_once_are_shown_in_both_orders() -> None:
    pair = next(one for one in PAIRS if one.step == AT_ONCE)
    page = text(row_of(pair, "interrupted"))
    lines = [line for line in page.splitlines() if "*interrupted*" in line]
    assert [line.split(" | ")[0] for line in lines] == [f"| {pair.first}", f"| {pair.second}"]


def test_two_in_turn_are_shown_by_the_first_and_the_second() -> None:
    pair = next(one for one in PAIRS if one.step == IN_TURN)
    lines = [line for line in text(row_of(pair, "interrupted")).splitlines() if "*interrupted*" in line]
    assert [line.split(" | ")[0] for line in lines] == [f"| {pair.first}"]


def test_rows_of_the_earlier_profile_are_marked_and_counted() -> None:
    page = text(ROW, replace(ROW, step="seal", played="2026-11-25 21:00"))
    assert "1 of 2 on the lab's stock profile" in page
    assert "sealed, group †" in page
    assert "†" not in text(ROW)


@pytest.mark.parametrize(
    ("cell", "older_than", "due"),
    [
        (("control killed", "held"), "", True),
        (("control killed", "held"), STOCK_SINCE, False),
        (("control killed", "held"), "2026-11-27 05:01", True),
        (("control killed", "seal"), STOCK_SINCE, True),
        (None, STOCK_SINCE, False),
        (None, "", True),
    ],
)
def test_a_cell_is_due_if_its_row_is_missing_or_old(
    cell: tuple[str, str] | None, older_than: str, *, due: bool
) -> None:
    assert is_due(cell, [ROW], older_than) is due
