"""The runs of captures, as far as a host looks at them: which state a run's record in Redis says it is in."""

from __future__ import annotations

import json
from typing import cast

from freezeframe.contract import names
from freezeframe.contract.words import RunState
from freezeframe.errors import FreezeframeError
from workers.host import Host


class RunUnreadableError(FreezeframeError):
    """The orchestrator has a run of which this version cannot read the state."""

    code = "run-unreadable"
    advice = "A newer orchestrator wrote the run's record: install the same version of freezeframe on this host."


def run_state(host: Host, capture_id: str) -> RunState | None:
    """Return the state of a run; None if Redis has none of that id. Raises redis errors, RunUnreadableError."""
    record = cast("str | None", host.redis.hget(names.run_key(capture_id), "record"))
    if record is None:
        return None
    try:
        return RunState(json.loads(record)["state"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RunUnreadableError(f"The record of run {capture_id} in Redis is not understood.") from error
