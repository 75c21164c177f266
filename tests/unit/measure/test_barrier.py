"""The bench of the barrier: gates and bare clients meet in one run."""

from __future__ import annotations

from ops.measure import barrier


def test_each_size_has_its_floor_beside_it() -> None:
    said: list[str] = []
    found = barrier.run(3, said.append, sizes=(2, 7))
    assert [row["hosts"] for row in found["rows"]] == [2, 7]
    assert len(said) == 2
    for row in found["rows"]:
        assert 0 < row["floor_p50_ms"] <= row["floor_p99_ms"]
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["p99_over_floor"] == round(row["p99_ms"] / row["floor_p99_ms"], 2)
