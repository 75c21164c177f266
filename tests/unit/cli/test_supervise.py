"""The supervisor with real processes: it starts again what dies, ends all in order, and leaves no orphan."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from freezeframe.supervise import Part, Pauses, Supervisor

SLEEPS = (sys.executable, "-c", "import time; time.sleep(1000)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)",
)


def until(true: Callable[[], bool]) -> None:
    """Wait; the test's own time-out is the bound."""
    while not true():
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether the process does anything: a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Diary:
    """What the supervisor told, in order."""

    def __init__(self) -> None:
        self.announced: list[tuple[str, str]] = []
        self.told: list[tuple[str, str]] = []

    def announce(self, name: str, line: str) -> None:
        self.announced.append((name, line))

    def tell(self, name: str, line: str) -> None:
        self.told.append((name, line))

    def ready(self, name: str) -> int:
        return sum(1 for one, line in self.announced if one == name and line.startswith("ready"))

    def ended(self) -> list[str]:
        return [name for name, line in self.announced if line == "ended"]


@contextmanager
def supervised(*parts: Part) -> Iterator[tuple[Supervisor, Diary]]:
    diary = Diary()
    supervisor = Supervisor(parts, tell=diary.tell, announce=diary.announce)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor, diary
    finally:
        supervisor.stop()
        thread.join()


def part(name: str, argv: tuple[str, ...] = SLEEPS, **rules: object) -> Part:
    return Part(name, argv, ready=lambda: True, first_pause_s=0.0, **rules)  # type: ignore[arg-type]


def test_a_child_that_dies_is_started_again() -> None:
    with supervised(part("one")) as (supervisor, diary):
        until(lambda: diary.ready("one") == 1)
        first = supervisor.pids["one"]
        os.kill(first, signal.SIGKILL)
        until(lambda: diary.ready("one") == 2)
        assert supervisor.pids["one"] != first
    assert ("one", "ended: killed by SIGKILL; starting it again") in diary.announced


def test_a_child_that_cannot_start_is_tried_again_and_told() -> None:
    with supervised(part("none", ("/nowhere/at/all",))) as (_, diary):
        until(lambda: sum("exit code 1" in line for _, line in diary.announced) >= 2)
        until(lambda: ("none", "/nowhere/at/all: No such file or directory") in diary.told)


def test_parts_end_in_the_order_of_their_ranks() -> None:
    parts = [part("last", end_rank=3), part("first", end_rank=1), part("middle", end_rank=2)]
    with supervised(*parts) as (supervisor, diary):
        until(lambda: all(diary.ready(one.name) for one in parts))
        pids = supervisor.pids
    assert diary.ended() == ["first", "middle", "last"]
    assert not any(runs(pid) for pid in pids.values())


def test_a_part_waits_for_those_it_comes_after() -> None:
    gate = threading.Event()
    before = Part("before", SLEEPS, ready=gate.is_set)
    with supervised(before, part("after", after=("before",))) as (supervisor, diary):
        until(lambda: "before" in supervisor.pids)
        assert "after" not in supervisor.pids
        gate.set()
        until(lambda: diary.ready("after") == 1)
    assert [name for name, line in diary.announced if line.startswith("ready")] == ["before", "after"]


def test_a_child_that_does_not_end_is_killed() -> None:
    with supervised(part("deaf", STUBBORN, end_s=0.1)) as (supervisor, diary):
        until(lambda: ("deaf", "deaf") in diary.told)
        pid = supervisor.pids["deaf"]
    assert not runs(pid)
    assert ("deaf", "did not end in time and is killed") in diary.announced


def test_a_second_stop_does_not_wait() -> None:
    with supervised(part("deaf", STUBBORN, end_s=10_000)) as (supervisor, diary):
        until(lambda: ("deaf", "deaf") in diary.told)
        pid = supervisor.pids["deaf"]
        supervisor.stop()
        supervisor.stop()
    assert not runs(pid)


def test_who_does_not_hurry_is_waited_for_all_the_same() -> None:
    """As the guard is, which may have guests to let go."""
    slow = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), print('free'), sys.exit()))"
    argv = (sys.executable, "-c", f"{slow}; print('up'); time.sleep(1000)")
    with supervised(part("guard", argv, hurries=False)) as (supervisor, diary):
        until(lambda: ("guard", "up") in diary.told)
        supervisor.stop()
        supervisor.stop()
    until(lambda: ("guard", "free") in diary.told)  # a thread tells it, in its own time


def test_lines_and_environment_of_a_child(tmp_path: Path) -> None:
    program = f"import os, time; print(os.environ['WORD']); open({str(tmp_path / 'x')!r}, 'w'); time.sleep(1000)"
    with supervised(part("one", (sys.executable, "-c", program), env={"WORD": "hello"})) as (_, diary):
        until(lambda: ("one", "hello") in diary.told)


SUPERVISOR = """
import sys
from freezeframe.supervise import Part, Supervisor
import signal
sleeps = (sys.executable, "-c", sys.argv[1])
parts = [
    Part("killed", sleeps, ready=lambda: True, orphan_signal=signal.SIGKILL),
    Part("told", sleeps, ready=lambda: True, orphan_signal=signal.SIGTERM),
]

def tell(name, line):  # two threads tell: each line in one piece
    sys.stdout.write(f"{name} {line}\\n")
    sys.stdout.flush()

Supervisor(parts, tell=tell, announce=lambda name, line: None).run()
"""
CHILD = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("pid", os.getpid(), flush=True)
time.sleep(1000)
"""


def test_no_orphan_is_left_when_the_supervisor_itself_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, CHILD], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(supervisor.stdout.readline().split()[2]) for _ in range(2)]
        assert all(runs(pid) for pid in pids)
        supervisor.kill()
    until(lambda: not any(runs(pid) for pid in pids))


def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    argv = ["--parent", "1", "--orphan-signal", "9", "--", "touch", "/nowhere/at/all"]
    run = subprocess.run(
        [sys.executable, "-m", "freezeframe.supervise", "exec", *argv], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == "the parent is gone\n"


def test_pauses_grow_and_are_forgiven() -> None:
    pauses = Pauses(0.5, 3.0)
    assert [pauses.after_death(1) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert [pauses.after_death(61), pauses.after_death(1)] == [0.5, 1.0]
    assert [Pauses(0.0, 1.0).after_death(0) for _ in range(2)] == [0.0, 0.0]


BEATS = (
    sys.executable,
    "-c",
    (
        "import time; from freezeframe.heartbeat import beat_while; "
        "beat_while(lambda: print('beat', flush=True) is None); time.sleep(1000)"
    ),
)


def test_a_child_that_stands_still_is_killed_and_started_again() -> None:
    """A stopped process runs no handler and dies of nothing but SIGKILL; nobody else would notice it."""
    with supervised(part("one", BEATS, watchdog_s=5.0)) as (supervisor, diary):
        until(lambda: diary.told.count(("one", "beat")) > 1)  # so the first has been sent
        first = supervisor.pids["one"]
        os.kill(first, signal.SIGSTOP)
        until(lambda: supervisor.pids.get("one", first) != first)
    assert ("one", "stands still: not heard of for 5 s; killed") in diary.announced


TELLS = (
    sys.executable,
    "-c",
    (
        "import sys, time; from freezeframe.heartbeat import tell_ready; print('begun', flush=True); sys.stdin.close(); "
        "time.sleep(0.5); tell_ready(); print('told', flush=True); time.sleep(1000)"
    ),
)


def test_a_child_that_tells_when_it_is_ready_is_not_ready_before() -> None:
    with supervised(part("one", TELLS, notifies=True), part("other", after=("one",))) as (supervisor, diary):
        until(lambda: ("one", "begun") in diary.told)
        assert diary.ready("one") == 0
        assert "other" not in supervisor.pids
        until(lambda: diary.ready("other") == 1)
        assert ("one", "told") in diary.told
        os.kill(supervisor.pids["one"], signal.SIGKILL)
        until(lambda: diary.ready("one") == 2)  # the next one tells again


def test_a_child_that_never_tells_is_never_ready() -> None:
    with supervised(part("one", notifies=True)) as (supervisor, diary):
        until(lambda: "one" in supervisor.pids)
        time.sleep(1.0)
        assert diary.ready("one") == 0


def test_telling_that_fails_ends_nothing() -> None:
    """A console leaves the process (SystemExit) when its reader has gone; a full disk is an OSError."""
    errors = [SystemExit(1), BrokenPipeError(), ValueError("I/O operation on closed file")]
    told: list[str] = []

    def fail(_: str, line: str) -> None:
        told.append(line)
        raise errors[len(told) % len(errors)]

    talks = (sys.executable, "-c", "import time\nwhile True: print('line', flush=True); time.sleep(0.01)")
    supervisor = Supervisor([part("one", talks)], tell=fail, announce=fail)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    until(lambda: told.count("line") > len(errors))
    first = supervisor.pids["one"]
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pids.get("one", first) != first)
    until(lambda: sum(line.startswith("ready") for line in told) == 2)
    supervisor.stop()
    thread.join()
    assert told[-1] == "ended"


def test_a_question_that_fails_is_a_no() -> None:
    answers: Iterator[Exception | bool] = iter(
        [OSError("Too many open files"), RuntimeError("can't start new thread"), True]
    )

    def ready() -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    before = Part("before", SLEEPS, ready=ready)
    with supervised(before, part("after", after=("before",))) as (_, diary):
        until(lambda: diary.ready("after") == 1)


class Shortage:
    """Lets what is called fail some times."""

    def __init__(self, call: Callable[..., object], error: Exception, times: int) -> None:
        self._call, self._error, self.left = call, error, times

    def __call__(self, *arguments: object, **named: object) -> object:
        if self.left:
            self.left -= 1
            raise self._error
        return self._call(*arguments, **named)


@pytest.mark.parametrize(
    "error",
    [BlockingIOError(11, "Resource temporarily unavailable"), OSError(24, "Too many open files"), MemoryError()],
)
def test_a_part_for_which_there_is_no_process_is_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    start = Shortage(subprocess.Popen, error, 3)
    monkeypatch.setattr(subprocess, "Popen", start)
    with supervised(part("one", watchdog_s=60.0), part("other")) as (_, diary):
        until(lambda: diary.ready("one") == diary.ready("other") == 1)
    assert start.left == 0
    assert sum("cannot be started" in line for _, line in diary.announced) == 3


def test_a_heart_for_which_there_is_no_descriptor_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = Shortage(socket.socket.bind, OSError(24, "Too many open files"), 2)
    monkeypatch.setattr(socket.socket, "bind", lambda line, address: bind(line, address))  # noqa: PLW0108  a method
    with supervised(part("one", watchdog_s=60.0)) as (_, diary):
        until(lambda: diary.ready("one") == 1)
    assert bind.left == 0


@pytest.mark.parametrize("refused", ["lines", "question"])
def test_a_part_for_whose_lines_or_question_there_is_no_thread_is_not_left_alone(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Without its lines it is started anew, and no process is left over; without the question it runs and is asked later."""
    real, pids, left = threading.Thread.start, [], [3]
    popen = subprocess.Popen

    def started(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        process = popen(*arguments, **named)
        pids.append(process.pid)
        return process

    def start(thread: threading.Thread) -> None:
        if left[0] and (thread.name.endswith(" lines") if refused == "lines" else "_watch_ready" in thread.name):
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(threading.Thread, "start", start)
    with supervised(part("one")) as (supervisor, diary):
        until(lambda: diary.ready("one") == 1)
        assert [pid for pid in pids if runs(pid)] == [supervisor.pids["one"]]
    assert len(pids) == (4 if refused == "lines" else 1)
    assert left == [0]
