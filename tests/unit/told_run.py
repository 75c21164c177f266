"""A run as the orchestrator tells hosts of it, in the fields beside its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis

from freezeframe.contract import names
from freezeframe.contract.message import OWN_VERSION


def tell_run(
    client: redis.Redis, capture_id: str, state: str, kept: Sequence[str] = (), v: object = OWN_VERSION
) -> None:
    """Put a run into Redis whose capture has these guests."""
    fields: Mapping[Any, str] = {
        "version": "1",
        "stated": "1",
        "v": str(v),
        "state": state,
        "kept": str(len(kept)),
        "record": "{}",
    }
    client.hset(names.run_key(capture_id), mapping=fields)
    client.delete(names.kept_key(capture_id))
    if kept:
        client.sadd(names.kept_key(capture_id), *kept)
