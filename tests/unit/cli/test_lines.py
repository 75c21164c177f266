"""Lines that nobody takes: whoever tells them goes on, the parts that are supervised too, and what is lost is counted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from freezeframe.cli import lines
from freezeframe.cli.lines import LINES_KEPT, Lines


class Pipe:
    """Stands in for stdout: a pipe of which the test has both ends."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def fileno(self) -> int:
        return self._writer

    def isatty(self) -> bool:
        return False

    def write(self, _: str) -> int:
        raise AssertionError("written through a buffer, which is locked when the process ends")

    def read(self) -> str:
        """Read to the end, which is when the writer is closed."""
        os.close(self._writer)
        with os.fdopen(self.reader, encoding="utf-8") as file:
            return file.read()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Pipe:
    made = Pipe()
    monkeypatch.setattr(
        lines, "sys", SimpleNamespace(stdout=made)
    )  # pytest puts its own `sys.stdout` back before the test
    return made


def test_lines_come_in_order_under_their_names(pipe: Pipe) -> None:
    with Lines(["guard", "data"]) as told:
        told.announce("guard", "ready")
        told.tell("data", "at work …")
        told.tell("guard", "[red]x[/red]")
    assert pipe.read().splitlines() == ["guard │ ready", "data  │ at work …", "guard │ [red]x[/red]"]


def test_a_reader_that_has_gone_ends_nothing(pipe: Pipe) -> None:
    os.close(pipe.reader)
    with Lines(["guard"]) as told:
        for number in range(100):
            told.tell("guard", str(number))
    (thread,) = {one for one in threading.enumerate() if one is told._thread}
    assert thread.is_alive()
    os.close(pipe.fileno())


def test_a_disk_that_was_full_has_the_next_line_and_how_many_were_lost(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tries = os.write, []

    def full(number: int, data: memoryview) -> int:
        if number == pipe.fileno():
            tries.append(bytes(data))
            if len(tries) <= 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(number, data)

    monkeypatch.setattr(os, "write", full)
    with Lines(["guard"]) as told:
        for number in range(4):
            told.tell("guard", str(number))
        told.close()
        told.tell("guard", "4")
    said = pipe.read().splitlines()
    assert said == ["… lines that could not be written: 3", "guard │ 3", "guard │ 4"]


def test_a_reader_that_does_not_read_is_not_waited_for_and_has_the_newest_lines(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, reads, stuck = os.write, threading.Event(), threading.Event()

    def blocking(number: int, data: memoryview) -> int:
        if number == pipe.fileno():
            stuck.set()
            reads.wait()
        return write(number, data)

    monkeypatch.setattr(os, "write", blocking)
    monkeypatch.setattr(lines, "LINES_KEPT", 3)
    monkeypatch.setattr(lines, "CLOSE_S", 0.05)
    told = Lines(["guard"])
    told.tell("guard", "0")
    stuck.wait()
    for number in range(1, 9):
        told.tell("guard", str(number))
    told.close()  # it does not wait for ever either
    monkeypatch.setattr(lines, "CLOSE_S", 60.0)
    reads.set()
    told.close()
    assert pipe.read().splitlines() == [
        "guard │ 0",
        "… lines that could not be written: 5",
        "guard │ 6",
        "guard │ 7",
        "guard │ 8",
    ]
    assert LINES_KEPT > 1000


def test_lines_wait_for_a_thread_to_write_them(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told = Lines(["guard"])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        told.tell("guard", "1")
    told.tell("guard", "2")
    told.close()
    assert pipe.read().splitlines() == ["guard │ 1", "guard │ 2"]


def test_a_process_without_stdout_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "sys", SimpleNamespace(stdout=None))
    with Lines(["guard"]) as told:
        told.tell("guard", "1")


# `up` as it is, with a part that is told to write much and to live on.

UP = """
import sys
from pathlib import Path
from freezeframe.cli import up
from freezeframe.supervise import Part
from freezeframe.cli.lines import Lines
program = '''
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
while True:
    print("x" * 200, flush=True)
    time.sleep(0.0005)
    pathlib.Path(sys.argv[2]).touch()
'''
here = Path(sys.argv[1])
argv = (sys.executable, "-c", program, str(here / "pid"), str(here / "beat"))
part = Part("guard", argv, ready=lambda: True, first_pause_s=0.0)
with Lines(["guard"]) as console:
    up._run([part], console)
"""


class Upped:
    """`up._run` in a process of its own, whose stdout is the test's to choose."""

    def __init__(self, directory: Path, stdout: int) -> None:
        self.directory = directory
        argv = [sys.executable, "-c", UP, str(directory)]
        self.process = subprocess.Popen(argv, stdout=stdout, stderr=subprocess.PIPE, text=True)

    def pid(self, other_than: int = 0) -> int:
        """Wait for the part's process."""
        while True:
            try:
                found = int((self.directory / "pid").read_text())
            except (OSError, ValueError):
                found = 0
            if found not in {0, other_than}:
                return found
            assert self.process.poll() is None
            time.sleep(0.01)

    def writes_on(self) -> None:
        """Wait until the part has got rid of more lines: a pipe that nobody reads would have stopped it."""
        beat = self.directory / "beat"
        for _ in range(800):  # a pipe takes some 300 of its lines, and there are two
            beat.unlink(missing_ok=True)
            while not beat.exists():
                assert self.process.poll() is None
                time.sleep(0.0005)

    def end(self) -> tuple[int, str]:
        self.process.terminate()
        _, told = self.process.communicate()
        return self.process.returncode, told


@pytest.fixture(params=["reader-gone", "full", "not-read"])
def upped(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Upped]:
    reader, writer = os.pipe() if request.param != "full" else (None, os.open("/dev/full", os.O_WRONLY))
    one = Upped(tmp_path, writer)
    os.close(writer)
    if reader is not None and request.param == "reader-gone":
        os.close(reader)
        reader = None
    yield one
    one.process.kill()
    one.process.wait()
    if reader is not None:
        os.close(reader)


@pytest.mark.case("S4")
def test_parts_run_on_and_are_started_again_whoever_does_not_read(upped: Upped) -> None:
    """`freezeframe up | head`, and the guard was told to end."""
    first = upped.pid()
    upped.writes_on()
    os.kill(first, 9)
    upped.pid(other_than=first)
    assert upped.end() == (0, "")
