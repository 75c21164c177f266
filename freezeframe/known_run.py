"""Runs as callers see them: those that go on, and for a while those that have ended, with their receipts. From Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import redis

from freezeframe.contract import names
from freezeframe.contract.event import Queued
from freezeframe.contract.fault import Fault
from freezeframe.contract.message import Message
from freezeframe.contract.request import CaptureRequest, Receipt
from freezeframe.contract.words import RunState
from freezeframe.errors import FreezeframeError

_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_BEGINNING = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{0,25}")


class NewerRunError(FreezeframeError):
    """The record of a run cannot be read by this version."""

    code = "newer-run"
    advice = "Install the orchestrator's version of freezeframe here (`freezeframe version`)."


@dataclass(frozen=True)
class KnownRun:
    """A run, as its record tells."""

    capture_id: str
    state: RunState
    asked_at: datetime
    guests: tuple[str, ...]
    every_guest: bool
    group: str | None
    tags: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()
    queued: Queued | None = None  # while it waits
    receipt: Receipt | None = None  # once it has ended


@dataclass(frozen=True)
class UnreadRun:
    """A run that is there, and of which this version cannot tell how it stands."""

    capture_id: str
    active: bool  # it has not ended
    why: str

    def __str__(self) -> str:
        return f"Capture {self.capture_id} {'is under way' if self.active else 'has ended'}, and {self.why}."


@dataclass(frozen=True)
class KnownRuns:
    """The runs that Redis has, each newest first. Unreadable is not absent: a guest may be held in a run that is unread."""

    active: tuple[KnownRun, ...] = ()
    failed: tuple[KnownRun, ...] = ()
    unread: tuple[UnreadRun, ...] = ()


def runs(client: redis.Redis, besides: Collection[str]) -> KnownRuns:
    """Return the runs that go on, have failed or cannot be read, but for those of `besides`. Raises redis errors."""
    active = cast("set[str]", client.smembers(names.ACTIVE_RUNS_KEY))
    ids = sorted({*active, *_ids(client, "")} - set(besides), reverse=True)
    records = {one: _record(client, one) for one in ids}
    found = {one: _run_of(one, record) for one, record in records.items()}
    known = [run for run in found.values() if run is not None]
    return KnownRuns(
        # by what the record says, which was read last: a run may have ended since the active ones were listed
        active=tuple(run for run in known if not run.state.ended),
        failed=tuple(run for run in known if run.state is RunState.FAILED),
        unread=tuple(
            UnreadRun(one, one in active, _why(records[one]))
            for one, run in found.items()
            # one that had ended and has expired since it was listed is none
            if run is None and (records[one] is not None or one in active)
        ),
    )


def find(client: redis.Redis, word: str) -> list[str]:
    """Return the ids that `word` is, or is the beginning of. Raises redis errors."""
    return sorted(_ids(client, word.upper())) if may_be_id(word) else []


def may_be_id(word: str) -> bool:
    """Return True if `word` is an id, or the beginning of one, of any run. Pure."""
    return _BEGINNING.fullmatch(word.upper()) is not None


def is_id(word: str) -> bool:
    """Return True if `word` is the id of a capture. Pure."""
    return _ID.fullmatch(word) is not None


def load(client: redis.Redis, capture_id: str) -> KnownRun | None:
    """Return a run; None if Redis has none of that id. Raises redis errors, NewerRunError."""
    record = _record(client, capture_id)
    if record is None:
        return None
    run = _run_of(capture_id, record)
    if run is None:
        raise NewerRunError(f"Redis has a run of capture {capture_id}, and this version cannot read its record.")
    return run


def _ids(client: redis.Redis, beginning: str) -> Iterable[str]:
    """SCAN may give a key twice. [redis.io/commands/scan]"""
    keys = {*client.scan_iter(match=f"{names.run_key(beginning)}*", count=1000)}
    ids = (cast("str", key).removeprefix(names.run_key("")) for key in keys)
    return [one for one in ids if _ID.fullmatch(one)]


def _why(record: str | None) -> str:
    """Return why a record that this version cannot read is none for it. Pure."""
    if record is None:
        return "Redis has lost its record"
    try:
        version = json.loads(record)["v"]
    except (ValueError, KeyError, TypeError, RecursionError):
        version = None
    if isinstance(version, int) and version > Message.model_fields["v"].default:
        return f"its record was written by a newer version (format {version}) and cannot be read here"
    return "its record cannot be read here"


def _record(client: redis.Redis, capture_id: str) -> str | None:
    return cast("str | None", client.hget(names.run_key(capture_id), "record"))


def _run_of(capture_id: str, record: str | None) -> KnownRun | None:
    """Return what a record tells; None if it cannot be read. Its model is the orchestrator's: these keys are for others too."""
    try:
        kept = json.loads(record or "")
        request = CaptureRequest.model_validate(kept["request"])
        return KnownRun(
            capture_id=capture_id,
            state=RunState(kept["state"]),
            asked_at=datetime.fromisoformat(kept["asked_at"]),
            guests=request.guests,
            every_guest=request.every_guest,
            group=request.group,
            tags=request.tags,
            faults=tuple(Fault.model_validate(one) for one in kept.get("faults", ())),
            warnings=tuple(str(one) for one in kept.get("warnings", ())),
            queued=Queued.model_validate(kept["queued"]) if kept.get("queued") is not None else None,
            receipt=Receipt.model_validate(kept["receipt"]) if kept.get("receipt") is not None else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
