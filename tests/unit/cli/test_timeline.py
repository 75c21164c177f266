"""Hold windows as text: what came before the release is drawn before it, to scale, in as many columns as there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.cli.timeline import LEAST_CELLS, Hold, Scale, draw

HOLDS = [
    Hold("alpha", (-40, -30, -20, 1, 10), "50 ms"),
    Hold("beta", (-25, -20, -10, 1, 5), "30 ms"),
]


def test_parts_are_to_scale_and_the_release_is_one_line_through_all() -> None:
    assert draw(HOLDS, 65) == [
        "       −41 ms                                 0    +10 ms",
        "alpha  ░░░░░░░░░░▒▒▒▒▒▒▒▒▒████████████████████│░░░░░░░░░░  50 ms",
        "beta                  ░░░░▒▒▒▒▒▒▒▒▒▒██████████│░░░░░       30 ms",
    ]


@pytest.mark.parametrize("width", [1, 40, 80, 120, 1000])
def test_it_fits_and_the_release_is_in_one_column(width: int) -> None:
    _, *rows = draw(HOLDS, width)
    assert len({row.index("│") for row in rows}) == 1
    assert all(len(row) <= max(width, LEAST_CELLS + 14) for row in rows)


def test_a_guest_that_was_let_go_too_early_shows_a_gap_before_the_release() -> None:
    early = Hold("early", (-40, -30, -20, -15, -10), "")
    assert " │" in draw([*HOLDS, early], 80)[-1]


def test_a_guest_that_began_too_late_begins_behind_the_release() -> None:
    late = Hold("late", (-40, -30, 5, 6, 10), "")
    row = draw([late], 80)[-1]
    assert "▒│▒" in row
    assert row.index("█") > row.index("│")


def test_an_end_that_nobody_knows_is_a_question() -> None:
    assert draw([*HOLDS, Hold("lost", (-40, -30, -20, 1, None), "")], 80)[-1].endswith("│█?")
    assert draw([Hold("none", (-40, None, None, None, None), "")], 80)[-1].count("?") == 1


def test_names_that_are_too_long_are_cut() -> None:
    assert draw([Hold("n" * 50, (-1, -1, -1, 1, 1), "")], 80)[-1].startswith("n" * 19 + "…")


def test_nothing_to_draw_draws_nothing() -> None:
    assert len(draw([], 80)) == 1


#: In ms, to the µs as all that is measured.
moments = st.integers(-(10**10), 10**10).map(lambda micros: micros / 1000)


@given(st.lists(moments, max_size=20), st.integers(LEAST_CELLS, 100))
def test_every_time_has_a_cell_on_its_side_of_the_release(times: list[float], cells: int) -> None:
    scale = Scale.of(times, cells)
    assert scale.cells <= cells
    for at_ms in times:
        cell = scale.cell(at_ms)
        assert 0 <= cell < scale.cells
        assert (cell < scale.left) == (at_ms < 0)


@given(st.lists(moments, min_size=2, max_size=2), st.integers(LEAST_CELLS, 100))
def test_the_later_is_never_drawn_before_the_earlier(times: list[float], cells: int) -> None:
    scale = Scale.of(times, cells)
    earlier, later = sorted(times)
    assert scale.cell(earlier) <= scale.cell(later)
