"""The captures that are left: why, and what to do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from freezeframe.repository.copying.report import Left, Why
from freezeframe.repository.errors import NewerFormat, RepositoryDamaged

if TYPE_CHECKING:
    from freezeframe.repository.errors import RepositoryError


def left_of(capture_id: str, error: RepositoryError, address: str, *, in_copy: bool = False) -> Left:
    """Return why a capture is left, for an object of the repository at that address: the source, or the copy. Pure."""
    why, advice = _why(error), error.hint
    if why is Why.DAMAGED:
        advice = f"`FREEZEFRAME_REPOSITORY={shlex.quote(address)} freezeframe verify --all` says what is damaged there."
    return Left(capture_id, why, error.message, in_copy=in_copy, advice=advice)


def left_there(capture_id: str, error: RepositoryError, source: str, destination: str, *, sound: bool) -> Left:
    """Return why a capture is left whose manifest in the copy cannot be read. Pure.

    `sound`: it can be read at the source, so a damaged one is copied again once the copy has forgotten it.
    """
    why, advice = _why(error), error.hint
    if why is Why.DAMAGED and sound:
        forget = f"`FREEZEFRAME_REPOSITORY={shlex.quote(destination)} freezeframe forget {capture_id}`"
        copy = f"`freezeframe repo copy {shlex.quote(destination)} --repository {shlex.quote(source)} --capture {capture_id}`"
        advice = f"To copy it again: {forget}, then {copy}."
    reason = f"Its manifest in the copy cannot be read. {error.message}"
    return Left(capture_id, why, reason, in_copy=True, advice=advice)


def _why(error: RepositoryError) -> Why:
    if isinstance(error, NewerFormat):
        return Why.NEWER
    return Why.DAMAGED if isinstance(error, RepositoryDamaged) else Why.UNREADABLE
