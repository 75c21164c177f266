"""What `verify --tier restored` restores with. The hosts' side brings it, by an entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from freezeframe.cli.verbs import VerbMissingError
from freezeframe.missing import remedy
from freezeframe.repository.verify import Rehearsal

GROUP = "freezeframe.rehearsals"


def find_rehearsal(scratch: Path | None) -> Rehearsal:
    """One in that directory, or in its own choice of one. Raises VerbMissingError where the hosts' side is not installed."""
    point = next(iter(entry_points(group=GROUP, name="scratch")), None)
    advice = "Install freezeframe again, in one piece, or use --tier rehashed."
    if point is None:
        raise VerbMissingError(
            "The tier restored cannot be used on this machine: nothing to restore with.", advice=advice
        )
    try:
        made: Rehearsal = point.load()(scratch)
    except ImportError as error:
        raise VerbMissingError(
            f"The tier restored cannot be used on this machine: {error}.", advice=remedy(error) or advice
        ) from error
    return made
