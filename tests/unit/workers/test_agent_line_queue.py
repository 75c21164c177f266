"""Speaking to an agent at which others queue, or come between two of our looks: each wait has an end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from workers.guard import agent_line
from workers.guard.agent_line import AgentLine, AgentLineError, is_gone


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket whose queue has filled up since it was looked at: a connection that waits for room waits for ever."""
    path = tmp_path / "agent"
    monkeypatch.setattr(agent_line, "connections", {path: 0}.__getitem__)
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(1)
        for _ in range(2):
            waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        yield path


def test_a_qemu_at_which_others_have_come_to_queue_is_not_gone(full: Path) -> None:
    assert not is_gone(full)


def test_a_conversation_does_not_wait_for_room_in_the_queue(full: Path) -> None:
    """The guard calls again; a call that stood here would keep its other guests held."""
    with pytest.raises(BlockingIOError), AgentLine(full, 20.0):
        pass


def test_a_qemu_that_nobody_is_connected_to_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of another network namespace, of which nothing is seen."""
    path = tmp_path / "agent"
    monkeypatch.setattr(agent_line, "connections", {path: None}.__getitem__)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(4)
        assert not is_gone(path)


def test_the_guard_looks_some_fifty_times_a_second_whether_somebody_else_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a pause it would take a processor from the guests that it is to let go."""
    now, looks = 0.0, 0

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    def connected(_: Path) -> int:
        nonlocal looks
        looks += 1
        assert looks < 1000
        return 1

    monkeypatch.setattr(agent_line, "time", SimpleNamespace(monotonic=lambda: now, sleep=pause))
    monkeypatch.setattr(agent_line, "connections", connected)
    with pytest.raises(AgentLineError, match="Somebody else is connected"), AgentLine(tmp_path / "agent", 10.0):
        pass
    assert 400 <= looks <= 600
