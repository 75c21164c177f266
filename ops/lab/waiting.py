"""Waiting for the world, always with an end."""

import time
from collections.abc import Callable
from pathlib import Path

from ops.lab.errors import LabError

#: Enough of a log to see the reason in; an `up` that fails takes the file itself away.
_EVIDENCE_BYTES = 1500


def tail(log: Path) -> str:
    """The end of a log, or that there is none."""
    if not log.exists():
        return f"there is no {log}"
    return f"{log} ends with:\n{log.read_bytes()[-_EVIDENCE_BYTES:].decode(errors='replace')}"


def wait_for(
    what: str, ready: Callable[[], bool], timeout_s: float, interval_s: float = 0.05, *, evidence: Path | None = None
) -> None:
    """Poll until it is so; raises LabError that names what was waited for and quotes the log that should tell why."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s" + (f"; {tail(evidence)}" if evidence else ""))
        time.sleep(interval_s)
