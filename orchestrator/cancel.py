"""Cancel: a run is marked, and the next look ends it (`decision.cancelled`)."""

from __future__ import annotations

import structlog

from freezeframe.contract.fault import Fault
from orchestrator import decision
from orchestrator.errors import CancelledError
from orchestrator.run import Runs

log = structlog.get_logger("cancel")


def mark(runs: Runs, capture_id: str, who: str) -> None:
    """Mark a run as cancelled by `who`, unless it is already, or it is too late. Raises redis errors."""
    while (loaded := runs.load(capture_id)) is not None:
        run, version = loaded
        if run.cancelled is not None or run.state in decision.TOO_LATE:
            return
        changed = run.model_copy(update={"cancelled": Fault.of(CancelledError(f"It was cancelled by {who}."))})
        if runs.change(changed, version, tell=False):
            log.info("cancelled", capture=capture_id, state=str(run.state), who=who)
            return
