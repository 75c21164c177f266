"""Instances: which worker process of a kind takes this host's orders now, for the inventory.

    <state_dir>/instances/control, data    a random id, written when the worker has answered for what its predecessor began

The orchestrator sends orders again that it sent to another instance and that nobody has answered.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog

from workers import durable

log = structlog.get_logger("instance")

CONTROL = "control"
DATA = "data"


def begin(state_dir: Path, kind: str) -> None:
    """Note that this process takes the orders of its kind from now on. Trouble is logged: an order that is lost costs time."""
    try:
        durable.make_directory(state_dir / "instances")
        durable.replace(state_dir / "instances" / kind, secrets.token_hex(16))
    except OSError as error:
        log.warning("this worker is not known as a new one", kind=kind, why=str(error))


def current(state_dir: Path, kind: str) -> str:
    """Return the id of the worker of this kind that began last; empty if none has."""
    try:
        return durable.read(state_dir / "instances" / kind) or ""
    except OSError as error:
        log.warning("an instance cannot be read", kind=kind, why=str(error))
        return ""
