"""A log that nobody takes: whoever writes it neither fails nor waits, and what is lost is counted.

`freezeframe guard 2>&1 | less`: the guard stood still with its leases' lock at its first line that the pipe did not take.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import structlog

from freezeframe import log


class Pipe:
    """Stands in for stderr: a pipe of which the test has both ends."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fileno(self) -> int:
        return self.writer

    def fill(self) -> None:
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b"x" * select.PIPE_BUF)
        except BlockingIOError:
            os.set_blocking(self.writer, True)

    def take(self) -> str:
        """Read what is there."""
        os.set_blocking(self.reader, False)
        found = b""
        try:
            while piece := os.read(self.reader, 1 << 20):
                found += piece
        except BlockingIOError:
            pass
        return found.decode()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    made = Pipe()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    monkeypatch.setattr(log, "sys", SimpleNamespace(stderr=made))
    monkeypatch.setattr(log, "WAIT_S", 0.01)
    log.configure(logging.INFO)
    yield made
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_reader_that_does_not_read_keeps_nobody_waiting_and_is_told_what_it_missed(pipe: Pipe) -> None:
    pipe.fill()
    own = structlog.get_logger("guard")
    for number in range(50):
        own.info("held", number=number)
    assert "held" not in pipe.take()
    own.info("let go")
    lost, line = pipe.take().splitlines()
    assert "lines of this log that could not be written: 50" in lost
    assert "let go" in line
    own.info("and on")
    assert len(pipe.take().splitlines()) == 1


def test_a_reader_that_does_not_read_is_waited_for_once(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = select.poll

    class Noted:
        def __init__(self) -> None:
            self._poll = real()

        def register(self, number: int, events: int) -> None:
            self._poll.register(number, events)

        def poll(self, wait_ms: float) -> list[tuple[int, int]]:
            waits.append(wait_ms)
            return self._poll.poll(wait_ms)

    monkeypatch.setattr(select, "poll", Noted)
    pipe.fill()
    for _ in range(5):
        structlog.get_logger("guard").info("held")
    assert waits == [10.0, 0.0, 0.0, 0.0, 0.0]


def test_a_line_that_is_longer_than_the_pipe_takes_at_once_comes_whole_to_who_reads(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "WAIT_S", 60.0)
    text = "0123456789" * 30_000
    writing = threading.Thread(target=lambda: structlog.get_logger("guard").info(text))
    writing.start()
    found = b""
    while not found.endswith(b"\n"):
        found += os.read(pipe.reader, 1 << 16)
    writing.join()
    assert text in found.decode()


def test_a_reader_that_takes_a_long_line_piece_by_piece_is_waited_for_no_longer_in_all(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece came just in time, and a line of 40 pieces kept 40 times WAIT_S, and all who log behind it."""
    now = [100.0]
    waits: list[float] = []

    class Slow:
        def register(self, number: int, events: int) -> None:
            assert (os.fstat(number).st_ino, events) == (os.fstat(pipe.writer).st_ino, select.POLLOUT)

        def poll(self, wait_ms: float) -> list[tuple[int, int]]:
            waits.append(wait_ms)
            if wait_ms < 6:
                return []
            now[0] += 0.006
            pipe.take()
            return [(pipe.writer, select.POLLOUT)]

    monkeypatch.setattr(select, "poll", Slow)
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: now[0]))
    structlog.get_logger("guard").info("x" * 40 * select.PIPE_BUF)
    assert waits == [pytest.approx(10.0), pytest.approx(4.0)]


class Terminal(Pipe):
    """Stands in for stderr: a terminal whose other end nobody reads, as of an SSH connection that has stalled."""

    def __init__(self) -> None:
        self.reader, self.writer = os.openpty()

    def fill(self) -> None:
        """Leave room for less than a line: the terminal counts as writable, and a write waits for the rest."""
        super().fill()
        os.read(self.reader, 64)


def test_a_terminal_that_takes_less_than_a_line_keeps_nobody_waiting(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(log, "sys", SimpleNamespace(stderr=terminal))
    terminal.fill()

    def write() -> None:
        for number in range(3000):
            structlog.get_logger("guard").info("held", number=number)

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(60)
    stood_still = writing.is_alive()
    while stood_still and writing.is_alive():
        os.read(terminal.reader, 1 << 16)
    assert not stood_still
    assert pipe.take() == ""
    terminal.take()
    structlog.get_logger("guard").info("let go")
    assert "could not be written" in terminal.take()


def test_two_who_write_into_one_pipe_do_not_wait_for_its_last_place(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the place between the question and the write."""
    real = select.poll

    class Taken:
        def __init__(self) -> None:
            self._poll = real()

        def register(self, number: int, events: int) -> None:
            self._poll.register(number, events)

        def poll(self, wait_ms: float) -> list[tuple[int, int]]:
            ready = self._poll.poll(wait_ms)
            pipe.fill()
            return ready

    monkeypatch.setattr(select, "poll", Taken)
    writing = threading.Thread(target=lambda: structlog.get_logger("guard").info("held"), daemon=True)
    writing.start()
    writing.join(60)
    stood_still = writing.is_alive()
    while stood_still and writing.is_alive():
        os.read(pipe.reader, 1 << 16)
    assert not stood_still


def test_a_reader_that_has_gone_ends_nothing(pipe: Pipe) -> None:
    os.close(pipe.reader)
    for _ in range(3):
        structlog.get_logger("guard").error("held")
        logging.getLogger("celery").error("held")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("closed file")])
def test_a_stderr_that_fails_ends_nothing_and_has_the_next_line(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(number: int, _: memoryview) -> int:
        assert os.fstat(number).st_ino == os.fstat(pipe.writer).st_ino
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        structlog.get_logger("guard").error("held")
    structlog.get_logger("guard").error("let go")
    lost, line = pipe.take().splitlines()
    assert "lines of this log that could not be written: 1" in lost
    assert "let go" in line


def test_a_process_without_stderr_logs_to_nobody(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "sys", SimpleNamespace(stderr=None))
    structlog.get_logger("guard").error("held")
    assert pipe.take() == ""
