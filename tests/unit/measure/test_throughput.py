"""The bench of throughput: its durable rows, the disk beside them, and what it says of a capture that failed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from ops.measure import __main__ as benches
from ops.measure import disk, throughput
from ops.measure.failed import CaptureFailedError, failure
from ops.measure.throughput import OURS, Durable


def durable(disk_mb_per_s: float) -> Durable:
    made = Durable(disk_mb_per_s=[disk_mb_per_s, 1000.0, 1.0])
    for name, seconds in ((OURS, [12.0, 10.0]), ("loop", [20.0, 25.0])):
        for one in seconds:
            made.add(name, one)
    return made


def test_a_slow_disk_is_the_limit_and_what_is_stored_counts_for_it() -> None:
    report = durable(100.0).report(read_bytes=2_000_000_000, stored_bytes=900_000_000, roofline_mb_per_s=800.0)
    assert report["rows"] == {
        OURS: {"mb_per_s": 200.0, "seconds": 10.0},
        "loop": {"mb_per_s": 100.0, "seconds": 20.0},
    }
    assert (report["limited_by"], report["disk_mb_per_s"], report["disk_limit_mb_per_s"]) == ("disk", 100.0, 222.2)
    assert (report["over_limit"], report["over"]) == (0.9, {"loop": 2.0})


def test_a_fast_disk_leaves_the_limit_to_the_processors() -> None:
    report = durable(900.0).report(read_bytes=2_000_000_000, stored_bytes=900_000_000, roofline_mb_per_s=400.0)
    assert (report["limited_by"], report["over_limit"]) == ("processors", 0.5)


def test_the_disks_own_rate_is_of_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    assert disk.sequential_mb_per_s(tmp_path, 16 << 20) > 0
    assert list(tmp_path.iterdir()) == []
    assert disk.sync_s(tmp_path) >= 0
    with pytest.raises(FileNotFoundError):
        disk.sync_s(tmp_path / "gone")


RECEIPT = {
    "capture_id": "01KAAAAAAAAAAAAAAAAAAAAAAA",
    "state": "failed",
    "faults": [
        {"code": "no-agent", "message": "No agent answers.", "advice": "Start it.", "guest": "bench", "host": "host-a"},
        {"code": "transfer-stalled", "message": "It does not move."},
    ],
    "warnings": ["A manifest cannot be read."],
}


@pytest.mark.parametrize(
    ("stdout", "stderr", "told"),
    [
        (
            json.dumps(RECEIPT, indent=2),
            "",
            [
                "exit code 6",
                "Capture 01KAAAAAAAAAAAAAAAAAAAAAAA is failed.",
                "no-agent (guest bench, host host-a): No agent answers. Start it.",
                "transfer-stalled: It does not move.",
                "warning: A manifest cannot be read.",
            ],
        ),
        (
            json.dumps({"error": {"code": "unreachable", "message": "Redis is away.", "advice": "Start it."}}),
            "",
            ["unreachable: Redis is away. Start it."],
        ),
        (json.dumps({"state": "failed", "faults": []}), "a traceback", ["It has no fault. a traceback"]),
        ("", "", ["It said nothing."]),
        ("no JSON", "and more", ["no JSONand more"]),
    ],
)
def test_a_capture_that_fails_in_a_bench_is_told_with_its_faults(stdout: str, stderr: str, told: list[str]) -> None:
    said = str(failure(6, stdout, stderr))
    assert [line for line in told if line not in said] == []


def test_a_bench_in_which_a_capture_fails_ends_with_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise failure(6, json.dumps(RECEIPT), "")

    monkeypatch.setattr(benches, "app", failing)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        benches.main()
    assert ended.value.code == 1
    assert "no-agent (guest bench, host host-a)" in capsys.readouterr().err


def test_a_bench_that_is_terminated_takes_down_first_what_it_had_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    def terminated() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)  # the signal ends it
        finally:
            ended.append("lab")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(benches, "app", terminated)
    try:
        with pytest.raises(SystemExit) as exited:
            benches.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (exited.value.code, ended) == (143, ["lab"])


class System:
    """As much of a system as a capture of a bench takes: a program that fails."""

    def command_line(self, *arguments: str) -> list[str]:
        return ["true"] if arguments[-1] == "--help" else ["sh", "-c", f"echo '{json.dumps(RECEIPT)}'; exit 6"]

    def settings(self) -> dict[str, str]:
        return {}


def test_the_capture_of_a_bench_is_looked_at() -> None:
    with pytest.raises(CaptureFailedError, match="transfer-stalled: It does not move"):
        throughput.captured(System())  # type: ignore[arg-type]
