"""The looks of recovery: each is told once, all that are stuck stay known, and a look that fails is not the last."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from workers import durable, recovery
from workers.claims import Claims
from workers.host import Host
from workers.recovery import UNKNOWN_CAPTURE, Looks, Recovered, State
from workers.unknown_runs import UnknownRuns

ONE, OTHER = "01KAAAAAAAAAAAAAAAAAAAAAAA", "01KAAAAAAAAAAAAAAAAAAAAAAB"
STUCK = Recovered(ONE, State.STUCK, ("guest web: its agent does not answer",))


def told(looks: Looks, *found: Recovered) -> list[tuple[object, object]]:
    """Note a look, and return the captures and states that it tells."""
    with structlog.testing.capture_logs() as lines:
        looks.note(found)
    return [_row(line) for line in lines]


def _row(line: EventDict) -> tuple[object, object]:
    assert line["event"] == "recovered"
    return line["capture"], line["state"]


def test_a_stuck_capture_is_known_until_it_is_not_and_told_when_that_changes() -> None:
    looks = Looks()
    assert not looks.stuck
    assert told(looks, STUCK) == [(ONE, "stuck")]
    assert list(looks.stuck) == [STUCK]
    assert told(looks, STUCK) == []  # every five seconds
    other_reason = Recovered(ONE, State.STUCK, ("guest web: its disk is gone",))
    assert told(looks, other_reason) == [(ONE, "stuck")]
    assert told(looks, Recovered(ONE, State.UNDONE)) == [(ONE, "undone")]
    assert not looks.stuck


def test_an_undone_capture_is_told_and_one_that_is_left_alone_is_not() -> None:
    looks = Looks()
    left = [Recovered(OTHER, state) for state in (State.RUNNING, State.BUSY, State.UNKNOWN)]
    assert told(looks, Recovered(ONE, State.UNDONE), *left) == [(ONE, "undone")]
    assert not looks.stuck


def test_a_look_that_fails_is_followed_by_the_next_and_none_when_told_to_stop(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, looks = threading.Event(), Looks()
    found: list[object] = [OSError("no space"), ValueError("odd"), [STUCK], [STUCK]]
    asked: list[Host] = []

    def recover(own: Host, *, unknown: UnknownRuns) -> list[Recovered]:
        assert isinstance(unknown, UnknownRuns)
        asked.append(own)
        answer = found.pop(0)
        if not found:
            stop.set()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list)
        return answer

    pauses: list[float | None] = []
    monkeypatch.setattr(recovery, "recover", recover)
    monkeypatch.setattr(stop, "wait", pauses.append)
    recovery.recover_forever(host, stop, looks)
    assert asked == [host] * 4
    assert pauses == [recovery.LOOK_S] * 4
    assert list(looks.stuck) == [STUCK]
    recovery.recover_forever(host, stop)
    assert len(asked) == 4


def test_what_crashes_left_of_files_is_removed_below_the_state_directory(host: Host) -> None:
    old = host.settings.state_dir / "claims" / ".new-1"
    old.touch()
    os.utime(old, (time.time() - durable.STALE_S - 60,) * 2)
    recovery.sweep(host)
    assert not old.exists()


def test_temporary_files_that_cannot_be_removed_stop_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(durable, "sweep", refuse)
    with structlog.testing.capture_logs() as lines:
        recovery.sweep(host)
    assert [line["event"] for line in lines] == ["temporary files stay"]


@pytest.mark.case("S5")
def test_claims_that_cannot_be_listed_are_reported_and_the_journals_recover(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Claims) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Claims, "held", unreadable)
    [found] = recovery.recover(host, force=True)
    assert (found.capture_id, found.state) == (UNKNOWN_CAPTURE, State.STUCK)
    assert "Input/output error" in found.problems[0]
