"""A pseudo-terminal with somebody at it: runs a verb in a process of its own, and answers what it asks."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Far above what any verb of these tests takes: only a verb that waits for ever gets there.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Shown:
    """What a verb has shown, and its exit code."""

    exit_code: int
    text: str


def at_terminal(arguments: Sequence[str], answers: Sequence[tuple[str, str]], env: Mapping[str, str]) -> Shown:
    """Run a verb at a terminal; after each text of `answers` was shown, in order, its answer is typed."""
    child, terminal = pty.fork()
    if child == 0:
        try:
            os.execve(sys.executable, [sys.executable, "-m", "freezeframe", *arguments], {**os.environ, **env})  # noqa: S606
        finally:
            os._exit(127)
    try:
        shown = _talk(terminal, answers)
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    return Shown(os.waitstatus_to_exitcode(status), shown)


def _talk(terminal: int, answers: Sequence[tuple[str, str]]) -> str:
    shown, seen, left = "", 0, list(answers)
    until = time.monotonic() + _PATIENCE_S
    while True:
        if not select.select([terminal], [], [], max(0.0, until - time.monotonic()))[0]:
            raise AssertionError(f"it waits, and has shown: {shown}")
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            data = b""
        if not data:
            assert not left, f"it never asked {left[0][0]!r}, and has shown: {shown}"
            return shown
        shown += data.decode(errors="replace")
        while left and (found := shown.find(left[0][0], seen)) >= 0:
            seen = found + len(left[0][0])
            os.write(terminal, left.pop(0)[1].encode() + b"\n")
