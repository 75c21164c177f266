"""Lines of several parts in one terminal, written by a thread of their own.

    tell ─▶ LINES_KEPT lines at most ─▶ the writing thread ─▶ stdout

Whoever tells a line neither waits for the terminal nor fails with it: it is the supervisor of a thaw guard. A line that cannot
be written is dropped, because the reader is gone, the disk is full or nobody reads; how many were is said before the next one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from rich.text import Text

from freezeframe.cli.terminal import Terminal

#: Lines that wait for a reader that is slow; the oldest go first.
LINES_KEPT: Final = 10_000
#: Seconds for the last lines at the end.
CLOSE_S: Final = 2.0


class Lines:
    """Each line under its part's name. Any thread may tell one; a context manager, which waits for the last at its end."""

    def __init__(self, names: Sequence[str], styles: Mapping[str, str] | None = None) -> None:
        self._width = max((len(name) for name in names), default=0)
        self._styles = styles or {}
        self._console = Terminal(soft_wrap=True)
        self._changed = threading.Condition()
        self._waiting: deque[Text] = deque()
        self._dropped = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tell(self, name: str, line: str) -> None:
        """Show a line of a part."""
        self._put(name, Text(line))

    def announce(self, name: str, line: str) -> None:
        """Show what became of a part."""
        self._put(name, Text(line, "bold"))

    def close(self) -> None:
        """Wait until all is written, for CLOSE_S at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_writing, CLOSE_S)

    def _put(self, name: str, line: Text) -> None:
        text = Text.assemble((f"{name:<{self._width}}", self._styles.get(name, "")), " │ ", line)
        with self._changed:
            if len(self._waiting) >= LINES_KEPT:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(text)
            self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        """Have the writing thread; with the lock. Where there is no thread for it, the next line tries again."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._write_all, name="lines", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            return
        self._thread = thread

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                line, dropped = self._waiting.popleft(), self._dropped
                self._is_writing, self._dropped = True, 0
            if dropped:
                line = Text.assemble((f"… lines that could not be written: {dropped}\n", "bold"), line)
            if not self._wrote(line):
                with self._changed:
                    self._dropped += dropped + 1

    def _wrote(self, line: Text) -> bool:
        try:
            with self._console.capture() as captured:
                self._console.print(line)
            _write(captured.get())
        except (Exception, SystemExit):  # noqa: BLE001  whatever it is, the next line may be written
            return False
        return True


def _write(text: str) -> None:
    """Write past the stream's buffer: what a blocked thread holds a lock of cannot be flushed when the process ends."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file, as in a test
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    data = memoryview(text.encode(sys.stdout.encoding or "utf-8", "replace"))
    while data:
        data = data[os.write(number, data) :]
