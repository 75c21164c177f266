"""Supervising processes: start them, say when they are ready, start them again when they die or stand still, end them in order.

    Part        what to run, and the rules for it
    Child       one process of a part
    Pauses      how long to wait before the next start
    Supervisor  all parts, until it is told to stop

Telling must not end what it tells of: what `tell` and `announce` raise is dropped; they must not block. A part that cannot be
started, for want of a process, a thread, memory or a descriptor, is tried again after a pause.

No orphans, whatever dies: each child is started through `python -m freezeframe.supervise exec`, which asks the kernel for a
signal at the death of its parent before it becomes the program (a `preexec_fn` would run Python between fork and exec of a
process with threads). The kernel means the death of the *thread* that forked, so children are started by the thread that
runs the supervisor, and by no other. A session of its own keeps the terminal's Ctrl-C from the children: they are told to
end in order, by us. [prctl(2), PR_SET_PDEATHSIG]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from freezeframe.heartbeat import Pulse

_PR_SET_PDEATHSIG: Final = 1

#: Seconds between two looks at the children; also how soon a dead guard is started again.
LOOK_S = 0.05
#: Seconds between two questions whether a part is ready, and until it is told that one is not.
PROBE_S = 0.25
SLOW_S = 30.0
#: Seconds that a killed process is waited for at least: the kernel ends it when it next gives it a core.
KILLED_S = 10.0

#: What starting a process or a thread raises while there is none, or no memory or descriptor for it.
NOT_STARTED: Final = (OSError, RuntimeError, MemoryError)

Tell = Callable[[str, str], None]  # a part's name, a line


def die_with_parent(number: int) -> None:
    """Have the kernel send this process that signal when its parent (the thread that forked it) is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


@dataclass(frozen=True)
class Part:
    """What to run, and the rules for it."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    #: Parts that must have been ready once before this one is started for the first time.
    after: tuple[str, ...] = ()
    #: Parts of a lower rank are told to end, and have ended, before those of a higher one.
    end_rank: int = 0
    #: Seconds to end by itself before it is killed.
    end_s: float = 20.0
    #: Whether it is killed without that time when the supervisor is told to stop a second time.
    hurries: bool = True
    #: What the kernel sends it if the supervisor is killed.
    orphan_signal: signal.Signals = signal.SIGKILL
    #: Seconds before the first new start, and at most, after deaths one upon the other.
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    #: Seconds without a heartbeat after which it is killed; None for a part that does not beat (`freezeframe.heartbeat`).
    watchdog_s: float | None = None
    #: It tells when it is ready; `ready` is asked after that.
    notifies: bool = False


@dataclass
class Pauses:
    """Pauses before new starts: doubled after every death, small again for a part that had run for long enough."""

    first_s: float
    longest_s: float
    #: Seconds that a part must have run for its earlier deaths to be forgotten.
    forgiven_s: float = 60.0
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._next_s = self.first_s

    def after_death(self, ran_s: float) -> float:
        """The pause before the next start of a part that died after `ran_s`."""
        if ran_s >= self.forgiven_s:
            self._next_s = self.first_s
        pause_s = self._next_s
        self._next_s = min(self._next_s * 2, self.longest_s)
        return pause_s


class Child:
    """One process of a part; its lines are told as they come."""

    def __init__(self, part: Part, tell: Tell, pulse: Pulse | None = None) -> None:
        self.part = part
        self.pulse = pulse
        self.started = time.monotonic()
        # -P: Python imports nothing from the working directory
        launcher = [sys.executable, "-P", "-m", "freezeframe.supervise", "exec"]
        watch = ["--parent", str(os.getpid()), "--orphan-signal", str(int(part.orphan_signal))]
        self._process = subprocess.Popen(
            [*launcher, *watch, "--", *part.argv],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **part.env, **(pulse.env if pulse else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._pump = threading.Thread(target=self._tell_lines, args=(tell,), name=f"{part.name} lines", daemon=True)
        try:
            self._pump.start()
        except (
            BaseException
        ):  # without it the process would stand still at its first lines, and nobody would know of it
            self._process.kill()
            self._process.communicate()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process, and to no other that may have its pid later."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within that time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(timeout_s, 0))
            self._pump.join(1.0)
        return self._process.returncode is not None

    def kill_if_lost(self) -> bool:
        """Kill it if its heart has stopped; whether it was killed. A process that is stopped can be killed, not ended."""
        if self.pulse is None or not self.pulse.lost():
            return False
        self.send(signal.SIGKILL)
        self.listen_no_more()
        return True

    def is_ready(self) -> bool:
        """Return True if it has told so, where it does, and answers. A question that fails is a no."""
        if self.part.notifies and not (self.pulse and self.pulse.is_ready):
            return False
        with contextlib.suppress(Exception):
            return self.part.ready()
        return False

    def listen_no_more(self) -> None:
        if self.pulse is not None:
            self.pulse.close()
            self.pulse = None

    def _tell_lines(self, tell: Tell) -> None:
        assert self._process.stdout is not None  # noqa: S101  asked for above
        with self._process.stdout as lines:
            for line in lines:
                if text := line.decode(errors="replace").rstrip():
                    tell(self.part.name, text)


class _Seat:
    """A part's place in the supervisor: its child of now, and when to start the next."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.pauses = Pauses(part.first_pause_s, part.longest_pause_s)
        self.child: Child | None = None
        self.asked: Child | None = None  # of which it is asked, or was, whether it is ready
        self.due = 0.0
        self.was_ready = False


class Supervisor:
    """Runs parts until it is told to stop. `tell` gets a part's own lines, `announce` what became of it."""

    def __init__(self, parts: Sequence[Part], *, tell: Tell, announce: Tell) -> None:
        self._seats = {part.name: _Seat(part) for part in parts}
        self._tell = _never_raising(tell)
        self._announce = _never_raising(announce)
        # ours alone, so that nobody beats for a dead part; not in the directory for temporary files: a socket's path is short
        self._sockets = tempfile.TemporaryDirectory(prefix="freezeframe-")
        # a number and not an Event: a signal handler that sets an Event can meet its own thread inside that Event's lock
        self._stops = 0

    def stop(self) -> None:
        """Have `run` end all parts in order; called once more, have it kill those that hurry. Safe in a signal handler."""
        self._stops += 1

    @property
    def pids(self) -> dict[str, int]:
        """The processes of now, by their parts' names."""
        return {name: seat.child.pid for name, seat in self._seats.items() if seat.child is not None}

    def run(self) -> None:
        """Start the parts and keep them running until `stop`; then end them. In one thread: see the module's head."""
        try:
            while not self._stops:
                for seat in self._seats.values():
                    self._look(seat)
                time.sleep(LOOK_S)
        finally:
            self._end_all()
            self._sockets.cleanup()

    def _look(self, seat: _Seat) -> None:
        child = seat.child
        if child is not None and child.exit_code is None and child.kill_if_lost():
            self._announce(seat.part.name, f"stands still: not heard of for {seat.part.watchdog_s:g} s; killed")
        if child is not None and child.exit_code is not None:
            child.listen_no_more()
            pause_s = seat.pauses.after_death(time.monotonic() - child.started)
            seat.child, seat.due = None, time.monotonic() + pause_s
            again = f"; starting it again in {pause_s:g} s" if pause_s else "; starting it again"
            self._announce(seat.part.name, f"ended: {_cause(child.exit_code)}{again}")
        if seat.child is None and time.monotonic() >= seat.due and self._may_start(seat.part):
            self._start(seat)
        if seat.child is not None and seat.asked is not seat.child:
            self._ask(seat, seat.child)

    def _start(self, seat: _Seat) -> None:
        pulse = None
        try:
            pulse = self._pulse(seat.part)
            seat.child = Child(seat.part, self._tell, pulse)
        except NOT_STARTED as error:
            if pulse is not None:
                pulse.close()
            pause_s = max(seat.pauses.after_death(0.0), LOOK_S)
            seat.due = time.monotonic() + pause_s
            why = str(error) or type(error).__name__
            self._announce(seat.part.name, f"cannot be started: {why}; trying again in {pause_s:g} s")

    def _ask(self, seat: _Seat, child: Child) -> None:
        """Begin to ask whether a part is ready; without a thread for that, the next look tries again."""
        with contextlib.suppress(*NOT_STARTED):
            threading.Thread(target=self._watch_ready, args=(seat, child), daemon=True).start()
            seat.asked = child

    def _pulse(self, part: Part) -> Pulse | None:
        if not part.watchdog_s and not part.notifies:
            return None
        return Pulse(Path(self._sockets.name) / part.name, part.watchdog_s)

    def _may_start(self, part: Part) -> bool:
        return all(self._seats[name].was_ready for name in part.after if name in self._seats)

    def _watch_ready(self, seat: _Seat, child: Child) -> None:
        """Ask until the part is ready; a probe may block, so each has a thread, which ends with its child."""
        told = False
        while child.exit_code is None and not self._stops:
            if child.is_ready():
                self._announce(seat.part.name, f"ready (pid {child.pid})")
                seat.was_ready = True  # after it was told, so that what comes after it is told after it
                return
            if not told and time.monotonic() - child.started > SLOW_S:
                self._announce(seat.part.name, f"not ready after {SLOW_S:g} s; its lines may say why")
                told = True
            time.sleep(PROBE_S)

    def _end_all(self) -> None:
        self._stops = max(self._stops, 1)  # also after an error: no new starts, no more probes
        for rank in sorted({seat.part.end_rank for seat in self._seats.values()}):
            self._end([seat for seat in self._seats.values() if seat.part.end_rank == rank])

    def _end(self, seats: Sequence[_Seat]) -> None:
        """Ask the parts of one rank to end, wait, kill those that did not."""
        children = [seat.child for seat in seats if seat.child is not None]
        for child in children:
            child.send(signal.SIGTERM)
        for child in children:
            if not self._ended(child):
                self._announce(child.part.name, "did not end in time and is killed")
                child.send(signal.SIGKILL)
                child.wait(max(child.part.end_s, KILLED_S))
        for seat in seats:
            if seat.child is not None:
                seat.child.listen_no_more()
                self._announce(seat.part.name, "ended")
            seat.child = None

    def _ended(self, child: Child) -> bool:
        deadline = time.monotonic() + child.part.end_s
        while time.monotonic() < deadline and not (self._stops > 1 and child.part.hurries):
            if child.wait(LOOK_S):
                return True
        return child.exit_code is not None


def _never_raising(tell: Tell) -> Tell:
    """Return `tell` without its errors: a line is no reason to end what it is about."""

    def told(name: str, line: str) -> None:
        with contextlib.suppress(Exception, SystemExit):  # a console leaves the process when its reader has gone
            tell(name, line)

    return told


def _cause(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def _exec() -> None:
    """Become a program that gets a signal when its parent is gone; at once if the parent is gone already."""
    parser = argparse.ArgumentParser(prog="python -m freezeframe.supervise")
    parser.add_argument("verb", choices=["exec"])
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--orphan-signal", type=int, required=True)
    parser.add_argument("argv", nargs="+")
    wanted = parser.parse_args()
    die_with_parent(wanted.orphan_signal)
    if os.getppid() != wanted.parent:
        sys.exit("the parent is gone")
    try:
        os.execvp(wanted.argv[0], wanted.argv)  # noqa: S606  no shell is wanted
    except OSError as error:
        sys.exit(f"{wanted.argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _exec()
