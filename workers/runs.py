"""The runs of captures, as far as a host looks at them: what a run's record in Redis says. The orchestrator writes it.

A record of a newer version, or one in which this version cannot read what it looks for, says nothing: no reason to end or to
undo anything. Fields that no host looks at may be there or not.
"""

from __future__ import annotations

from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from freezeframe.contract import names
from freezeframe.contract.message import GuestUuid
from freezeframe.contract.words import RunState
from freezeframe.errors import FreezeframeError
from workers.host import Host


class RunUnreadableError(FreezeframeError):
    """The orchestrator has a run of which this version cannot read the record."""

    code = "run-unreadable"
    advice = "A newer orchestrator wrote the run's record: install the same version of freezeframe on this host."


class KnownRun(BaseModel):
    """The part of a run's record that hosts read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    v: Literal[1] = 1
    state: RunState
    kept: tuple[GuestUuid, ...] | None = None  # guests that are still part of the capture; None: it does not say


def find_run(host: Host, capture_id: str) -> KnownRun | None:
    """Return a run; None if Redis has none of that id. Raises redis errors, RunUnreadableError."""
    record = cast("str | None", host.redis.hget(names.run_key(capture_id), "record"))
    if record is None:
        return None
    try:
        return KnownRun.model_validate_json(record)
    except ValidationError as error:
        raise RunUnreadableError(f"The record of run {capture_id} in Redis is not understood.") from error


def run_state(host: Host, capture_id: str) -> RunState | None:
    """Return the state of a run; None if Redis has none of that id. Raises redis errors, RunUnreadableError."""
    run = find_run(host, capture_id)
    return None if run is None else run.state
