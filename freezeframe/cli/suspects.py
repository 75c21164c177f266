"""Captures that an audit has marked for verification: how they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.text import Text

from freezeframe.cli.output import err, when_text
from freezeframe.printable import one_line
from freezeframe.repository import Manifest, Repository, Suspect
from freezeframe.repository.errors import NewerFormat, ObjectNotReadable
from freezeframe.repository.notice import Unread, Why


@dataclass(frozen=True)
class Marked:
    """The marks of some captures. Those that cannot be read mark their disks all the same."""

    suspects: Sequence[Suspect]
    unread: Sequence[Unread] = ()
    captures: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # of unread marks, by name, as far as they are known

    @classmethod
    def of(cls, repository: Repository, captures: Iterable[Manifest]) -> Self:
        """Return all marks. `captures` are those among which that of an unread mark is looked for."""
        marks = repository.suspects.look()
        return cls(marks.suspects, marks.unread, repository.suspects.captures_of(marks.unread, captures))

    def of_one(self, capture_id: str) -> Marked:
        """Return those of one capture."""
        unread = [one for one in self.unread if capture_id in self.captures.get(one.name, ())]
        return Marked([one for one in self.suspects if one.capture_id == capture_id], unread, self.captures)

    def document(self) -> dict[str, object]:
        """Return them for programs."""
        unread = [
            {"name": one.name, "why": one.why, "reason": one.reason, "captures": self.captures.get(one.name, ())}
            for one in self.unread
        ]
        return {
            "suspects": [one.model_dump(mode="json", exclude={"format"}) for one in self.suspects],
            "unread_suspects": unread,
        }


def show_suspects(marked: Marked) -> None:
    """Show each mark, with the command that looks into it."""
    for one in marked.suspects:
        err().print(Text.assemble(("suspect: ", "bold yellow"), _told(one)), soft_wrap=True)
    for unread in marked.unread:
        told = _told_unread(unread, marked.captures.get(unread.name, ()))
        err().print(Text.assemble(("suspect: ", "bold yellow"), one_line(told)), soft_wrap=True)
    wanted = [one.capture_id for one in marked.suspects if one.verified_at is None]
    wanted += [one for unread in marked.unread for one in marked.captures.get(unread.name, ())]
    for capture_id in dict.fromkeys(wanted):
        err().print(f"  → freezeframe verify {capture_id}", soft_wrap=True)
    whys = {one.why for one in marked.unread}
    for why, advice in ((Why.NEWER, NewerFormat.advice), (Why.UNREADABLE, ObjectNotReadable.advice)):
        if why in whys:
            err().print(f"  → {advice}", soft_wrap=True)


def _told_unread(unread: Unread, captures: Sequence[str]) -> str:
    where = f"a disk of {', '.join(captures)}" if captures else "a disk"
    return f"{where} is marked by {unread.name}, which cannot be read, and counts as suspect. {unread.reason}"


def _told(one: Suspect) -> str:
    seen = (
        f"{one.capture_id}, disk {one.target} of guest {one.guest}: capture {one.found_by} found other data in the disk"
    )
    if one.verified_at is None:
        return f"{seen}; the capture is to be verified"
    return (
        f"{seen}; verified at {when_text(one.verified_at)} UTC: it is as it was written, so compare it with the guest"
    )
