"""How long a worker waits for the guard: for an inquiry as long as it asked for, for anything else a few seconds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.workers.guard_site import NOBODY, paused
from workers.guard import client
from workers.guard.client import GuardError, GuardLine
from workers.guard.lease import Answer

ANSWER_S = 0.1


class SlowGuard:
    """A guard that answers one call when it is told to."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.may_answer = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            lines.readline()
            self.may_answer.wait(60)
            connection.sendall(f"{Answer(ok=True).model_dump_json()}\n".encode())
            lines.readline()  # the next call, which nobody answers
            lines.readline()


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[GuardLine, SlowGuard]]:
    monkeypatch.setattr(client, "ANSWER_S", ANSWER_S)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "guard.sock"))
        listener.listen()
        guard = SlowGuard(listener)
        with GuardLine(tmp_path / "guard.sock") as line:
            yield line, guard


def test_an_inquiry_is_waited_for_as_long_as_it_asks_for_and_no_other_call_after_it(
    slow: tuple[GuardLine, SlowGuard],
) -> None:
    line, guard = slow
    late = threading.Timer(5 * ANSWER_S, guard.may_answer.set)
    late.start()
    assert line.inquire(paused(NOBODY), 30) == {}
    late.join()
    with pytest.raises(GuardError, match="did not answer"):
        line.ping()
