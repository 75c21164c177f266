"""The bench of the control plane: small, each part is there, with the figures that are asked for."""

from __future__ import annotations

from pathlib import Path

from ops.measure import orchestrate
from ops.measure.orchestrate import Sizes


def test_each_part_is_measured(tmp_path: Path) -> None:
    said: list[str] = []
    found = orchestrate.run(tmp_path, Sizes((1,), (40,), (0,), 1.0), said.append)
    [row] = found["rows"]
    assert (row["guests"], row["hosts"]) == (10, 1)
    for name in ("redis_commands_per_guest", "redis_bytes_per_guest", "orchestrator_cpu_ms_per_guest"):
        assert row[name] > 0
    assert 0 <= row["to_held_s"] <= row["to_sealed_s"]
    for part in (found["idle"], found["at_work"]):
        assert part["hosts"] == 1
        assert 0 < part["redis_cpu_share"] < 1
        assert 0 <= part["orchestrator_cpu_share"] < 1
    plans = [(one["guests_of"], one["known"]) for one in found["history"]]
    assert plans == [("none", False), ("the last one", True), ("a day ago", True), ("none", True)]
    assert all(one["manifests"] == 40 and one["plan_ms"] > 0 for one in found["history"])
    assert len(said) == 1 + 2 + len(plans)


def test_growth_is_that_over_a_capture_of_a_hundred_guests() -> None:
    rows = [
        {"guests": guests, "hosts": guests // 10, "cpu_per_guest": cost}
        for guests, cost in ((10, 9.0), (100, 2.0), (1000, 3.0))
    ]
    assert orchestrate.over_100(rows) == {"cpu_per_guest": 1.5}
    assert orchestrate.over_100(rows[:2]) == {}
