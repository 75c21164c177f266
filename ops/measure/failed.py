"""A capture in a bench that did not end well: what it says of itself, for the person who runs the bench."""

from __future__ import annotations

import json
from typing import Any, Final

#: Characters of output that is no receipt which are repeated.
_MOST: Final = 2000


class CaptureFailedError(RuntimeError):
    """A capture of a bench has failed: its figures would be of nothing."""


def failure(code: int, stdout: str, stderr: str) -> CaptureFailedError:
    """Return the error for a capture that ended with that exit code: each fault and warning of its receipt, or what it said."""
    lines = [f"The capture ended with exit code {code}."]
    receipt = _document(stdout)
    if receipt is None:
        lines.append(f"{stdout[-_MOST:]}{stderr[-_MOST:]}".strip() or "It said nothing.")
    else:
        lines += [f"Capture {receipt.get('capture_id')} is {receipt.get('state')}."] if "state" in receipt else []
        error = receipt.get("error")
        faults = [*receipt.get("faults", ()), *([error] if error else ())]
        lines += [_fault(fault) for fault in faults] or [f"It has no fault. {stderr[-_MOST:]}".strip()]
        lines += [f"warning: {text}" for text in receipt.get("warnings", ())]
    return CaptureFailedError("\n".join(lines))


def _document(stdout: str) -> dict[str, Any] | None:
    try:
        found = json.loads(stdout)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _fault(fault: dict[str, Any]) -> str:
    where = [f"{word} {fault[word]}" for word in ("guest", "disk", "host") if fault.get(word)]
    place = f" ({', '.join(where)})" if where else ""
    return f"{fault.get('code', 'fault')}{place}: {fault.get('message', '')} {fault.get('advice', '')}".strip()
