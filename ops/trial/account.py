"""The account of a trial: what was done and found, for people and for programs."""

from __future__ import annotations

from pydantic import BaseModel


class GuestAccount(BaseModel):
    """One guest in one capture."""

    guest: str
    host: str
    hold_ms: float
    consistency: str
    kinds: dict[str, str]
    bytes_read: int
    bytes_stored: int
    dirty_bytes: int | None
    identical: bool
    faults: list[str] = []


class CaptureAccount(BaseModel):
    """One capture, restored and compared."""

    capture_id: str
    consistency: str
    seconds: float
    guests: list[GuestAccount]


class Account(BaseModel):
    """The whole trial. `ok` only if every byte of every disk of every capture was identical."""

    ok: bool = False
    captures: list[CaptureAccount] = []
    booted: str | None = None  # the restored guest whose agent answered
    seconds: float = 0.0
