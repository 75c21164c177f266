"""How things are written, and how long work is shown where there is no terminal."""

from __future__ import annotations

import io
import logging
from datetime import UTC, datetime, timedelta, timezone

import pytest
import structlog
from rich.console import Console

from freezeframe import log
from freezeframe.cli.output import bytes_text, duration_text, ms_text, table, when_text
from freezeframe.cli.progress import Lines


def test_sizes() -> None:
    assert [bytes_text(size) for size in (0, 1023, 1024, 1536, 5 << 30, 3 << 60)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "5.0 GiB",
        "3072.0 PiB",
    ]


def test_durations() -> None:
    seconds = (0.04, 4.4, 12, 60, 200, 7500, 3600, 273600)
    wanted = ["0.0 s", "4.4 s", "12 s", "1 min", "3 min 20 s", "2 h 5 min", "1 h", "3 d 4 h"]
    assert [duration_text(one) for one in seconds] == wanted
    assert [ms_text(one) for one in (None, 0.4, 83.4, 999, 1270)] == ["–", "0 ms", "83 ms", "999 ms", "1.27 s"]


def test_times_are_utc() -> None:
    moment = datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    assert when_text(moment) == when_text(moment.astimezone(UTC)) == "2026-03-01 12:00:00"


def test_a_table_folds_and_cuts_nothing_away() -> None:
    shown = io.StringIO()
    Console(file=shown, width=40).print(table(["id", "words"], [["0123456789", "word " * 20]], whole=["id"]))
    assert "0123456789" in shown.getvalue()
    assert shown.getvalue().count("word") == 21


def test_lines_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 6.0, 7.0])
    lines = Lines(interval_s=5.0, clock=lambda: next(times))
    lines.say("transferring")
    lines.move("a", 0, 1024)
    lines.move("b", 0, 1024)
    lines.move("a", 1024, 1024)
    lines.move("b", 512, 1024)
    assert capsys.readouterr().err.splitlines() == ["transferring", "  2 parts: 1.0 KiB of 2.0 KiB (50%), 171 B/s"]


def test_no_password_gets_into_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(logging.INFO)
    structlog.get_logger("a").info("connected", url="redis://:secret@127.0.0.1:1/0")
    logging.getLogger("b").warning("cannot reach %s", "redis://me:secret@127.0.0.1:1/0")
    said = capsys.readouterr()
    assert said.out == ""
    assert "secret" not in said.err
    assert [line.split()[1:3] for line in said.err.splitlines()] == [
        ["level=info", "logger=a"],
        ["level=warning", "logger=b"],
    ]


def test_logs_in_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_LOG_JSON", "1")
    log.configure(logging.INFO)
    structlog.get_logger("a").info("connected", guests=3)
    assert '"event": "connected"' in capsys.readouterr().err
