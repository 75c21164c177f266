"""Captures that an audit has marked for verification: how they are told."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from freezeframe.cli.output import err, when_text
from freezeframe.repository import Suspect


def show_suspects(suspects: Sequence[Suspect]) -> None:
    """Show each mark, with the command that looks into it."""
    for one in suspects:
        err().print(Text.assemble(("suspect: ", "bold yellow"), _told(one)), soft_wrap=True)
    for capture_id in dict.fromkeys(one.capture_id for one in suspects if one.verified_at is None):
        err().print(f"  → freezeframe verify {capture_id}", soft_wrap=True)


def _told(one: Suspect) -> str:
    seen = (
        f"{one.capture_id}, disk {one.target} of guest {one.guest}: capture {one.found_by} found other data in the disk"
    )
    if one.verified_at is None:
        return f"{seen}; the capture is to be verified"
    return (
        f"{seen}; verified at {when_text(one.verified_at)} UTC: it is as it was written, so compare it with the guest"
    )
