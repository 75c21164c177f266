"""Logs: one line an event on stderr, `key=value` for people and journald, or JSON with FREEZEFRAME_LOG_JSON=1.

Our own lines come through structlog, Celery's and other libraries' through `logging`; both leave by the same handler and
look the same. Passwords in addresses are starred out on the way, whoever wrote the line, and control characters replaced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import stat
import sys
import time
from collections.abc import Iterator

import structlog
from structlog.types import Processor, WrappedLogger

from freezeframe.errors import FreezeframeError
from freezeframe.printable import printable

JSON_ENV = "FREEZEFRAME_LOG_JSON"
LEVEL_ENV = "FREEZEFRAME_LOG_LEVEL"

#: The levels that can be wished for, and how to say yes and no.
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})

#: Seconds for a reader of stderr that is slow. One that does not read is not waited for again.
WAIT_S = 0.2

#: `redis://user:password@host`: Celery stars these out itself, an exception's text does not.
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]+@")


class LogSettingError(FreezeframeError):
    """A variable that says how to log cannot be used."""

    code = "settings"
    advice = "Correct the environment variable, or leave it out."


def configure(level: int = logging.INFO) -> None:
    """Set up logging for this process; again to change the level. FREEZEFRAME_LOG_LEVEL, if set, has the last word.

    Raises LogSettingError.
    """
    level, renderer = _wanted_level(level), _renderer()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = _ToStderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _without_passwords],
        )
    )
    root = logging.getLogger()
    root.handlers = [*(one for one in root.handlers if not isinstance(one, _ToStderr)), handler]
    root.setLevel(level)


class _ToStderr(logging.Handler):
    """Writes to what stderr is at the time of the line, not at the time of the set-up.

    Whoever logs neither fails with stderr nor waits for it for longer than WAIT_S: it may hold a guest, or be the thaw guard.
    A line that cannot be written is dropped; how many were is said with the next one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  as all handlers of `logging` do
            self.handleError(record)
            return
        if self._lost:
            line = f"{self.format(_lost_lines(self._lost))}\n{line}"
        try:
            wrote = _wrote(f"{line}\n", 0.0 if self._lost else WAIT_S)
        except Exception:  # noqa: BLE001  no reader, no space, no stderr at all
            wrote = False
        self._lost = 0 if wrote else self._lost + 1


def _lost_lines(count: int) -> logging.LogRecord:
    return logging.LogRecord(
        "log", logging.WARNING, "", 0, "lines of this log that could not be written: %d", (count,), None
    )


def _wrote(text: str, wait_s: float) -> bool:
    """Write to stderr what it takes while it is waited for `wait_s` in all; return True if that was all of it."""
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError):  # it is no file, as in a test
        sys.stderr.write(text)
        return True
    data = memoryview(text.encode(sys.stderr.encoding or "utf-8", "backslashreplace"))
    left_s = wait_s
    with _never_waiting(number) as descriptor:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        while data:
            began = time.monotonic()
            if not poll.poll(left_s * 1000):
                return False
            try:
                data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]
            except BlockingIOError:  # another process was faster
                if not left_s:
                    return False
            left_s = max(0.0, left_s - (time.monotonic() - began))
    return True


@contextlib.contextmanager
def _never_waiting(number: int) -> Iterator[int]:
    """Yield a descriptor of the same pipe or terminal whose writes never wait, or `number` where none can be had.

    A terminal counts as writable with room for less than is written. Another process may write into the same pipe between
    question and write. The flag of `number` itself is its other users' too. A file never waits; a socket that counts as
    writable takes a piece. [Linux drivers/tty/n_tty.c: n_tty_poll; net/unix/af_unix.c: unix_writable]
    """
    own = None
    if stat.S_ISFIFO(os.fstat(number).st_mode) or os.isatty(number):
        with contextlib.suppress(OSError):  # no reader, no right, no descriptor
            own = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield number if own is None else own
    finally:
        if own is not None:
            os.close(own)


def _wanted_level(usual: int) -> int:
    wanted = os.environ.get(LEVEL_ENV, "").strip().upper()
    if not wanted:
        return usual
    if wanted not in _LEVELS:
        known = ", ".join(_LEVELS)
        raise LogSettingError(f"The setting {LEVEL_ENV} cannot be used: {wanted!r} is no level; levels are {known}.")
    return logging.getLevelNamesMapping()[wanted]


def _renderer() -> Processor:
    wanted = os.environ.get(JSON_ENV, "").strip().lower()
    if wanted not in _YES | _NO:
        raise LogSettingError(f"The setting {JSON_ENV} cannot be used: {wanted!r} is neither 1 nor 0.")
    if wanted in _YES:
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return structlog.processors.LogfmtRenderer(key_order=["time", "level", "logger", "event"], drop_missing=True)


def _without_passwords(_logger: WrappedLogger, _method: str, line: object) -> str:
    return printable(_PASSWORD.sub(r"\1:***@", str(line)))
