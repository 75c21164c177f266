"""The runs of captures, as far as a host looks at them: a few fields beside the record in Redis. The orchestrator writes them.

A run of a newer format, or in a state that this version does not know, says nothing: no reason to end or to undo anything.
An orchestrator of the version before writes the record alone, also where a later one has written the fields before it: then the
record is read in whole.
"""

from __future__ import annotations

from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from freezeframe.contract import names
from freezeframe.contract.message import OWN_VERSION
from freezeframe.contract.words import RunState
from freezeframe.errors import FreezeframeError
from workers.host import Host

#: States of a run in which it is settled which guests are still part of the capture.
_KEPT_IS_KNOWN = frozenset({RunState.TRANSFERRING, RunState.SEALING, RunState.RELEASING})


class RunUnreadableError(FreezeframeError):
    """The orchestrator has a run of which this version cannot read how it stands."""

    code = "run-unreadable"
    advice = "Another version of the orchestrator wrote the run: install the same version of freezeframe on this host."


class _Record(BaseModel):
    """The part of a whole record that a host reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    v: Literal[1] = OWN_VERSION
    state: RunState


def run_state(host: Host, capture_id: str) -> RunState | None:
    """Return the state of a run; None if Redis has none of that id. Raises redis errors, RunUnreadableError."""
    wanted = ["version", "stated", "v", "state"]
    version, stated, v, state = cast("list[str | None]", host.redis.hmget(names.run_key(capture_id), wanted))
    if stated is None or stated != version:
        return _state_in_record(host, capture_id)
    return _state(capture_id, v, state)


def goes_on_without(host: Host, capture_id: str, guest_uuid: str) -> bool:
    """Return True if a run goes on, and this guest is not part of its capture any more.

    False also where Redis does not say. Raises redis errors, RunUnreadableError.
    """
    with host.redis.pipeline(transaction=True) as together:
        together.hmget(names.run_key(capture_id), ["version", "stated", "v", "state", "kept"])
        together.scard(names.kept_key(capture_id))
        together.sismember(names.kept_key(capture_id), guest_uuid)
        (version, stated, v, state, kept), number, is_kept = together.execute()
    if stated is None or stated != version:
        return False
    if kept != str(number):  # the set was evicted, which is no word on any guest
        return False
    return _state(capture_id, v, state) in _KEPT_IS_KNOWN and not is_kept


def _state_in_record(host: Host, capture_id: str) -> RunState | None:
    record = cast("str | None", host.redis.hget(names.run_key(capture_id), "record"))
    if record is None:
        return None
    try:
        found = _Record.model_validate_json(record)
    except ValidationError:
        raise _unreadable(capture_id) from None
    return found.state


def _state(capture_id: str, v: str | None, state: str | None) -> RunState:
    """Return the state that the fields of a run say. Raises RunUnreadableError. Pure."""
    if v != str(OWN_VERSION) or state not in {str(one) for one in RunState}:
        raise _unreadable(capture_id)
    return RunState(state)


def _unreadable(capture_id: str) -> RunUnreadableError:
    return RunUnreadableError(f"How run {capture_id} stands in Redis is not understood.")
