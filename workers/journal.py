"""The journal: a host's own durable record of every change it made to a guest that must be undone.

    <state_dir>/captures/<capture id>/changes    a JSON line a change, on disk before the change is made
                                     /begun/     the order of each step that was begun
                                     /results/   the result of each step, so that an order delivered twice is answered alike
                                     /ended      all is undone or kept for good; nothing is left to do

Crash windows. After a line and before its change: undoing it finds nothing to undo, which is fine, since every undo asks
what is there first. In the middle of a line: the change was not made; a broken last line is passed over. After the undo
and before `ended`: it is undone a second time, to no effect.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel, ValidationError

from freezeframe.contract.fault import Fault
from freezeframe.contract.message import CaptureId, DiskTarget, GuestUuid, Shape
from freezeframe.contract.words import HoldKind, Step
from workers import durable

#: Ended captures whose journals are kept, so that late orders are answered alike and people can look.
KEPT = 50


class _GuestChange(Shape):
    guest_uuid: GuestUuid


class ClaimChange(_GuestChange):
    """The guest was claimed."""

    change: Literal["claim"] = "claim"


class ScratchChange(_GuestChange):
    """A scratch file was made."""

    change: Literal["scratch"] = "scratch"
    path: Path


class ReservationChange(_GuestChange):
    """Room for the guest's scratch files was promised (`workers/scratch`)."""

    change: Literal["reservation"] = "reservation"
    guest: str
    needed_bytes: int
    targets: tuple[DiskTarget, ...]
    images: tuple[Path, ...] = ()  # of this host, in which a new bitmap of the guest may be stored


class GivenUpChange(_GuestChange):
    """The guest's backup is ended before its transfers are done, for this reason."""

    change: Literal["given-up"] = "given-up"
    fault: Fault


class FreedChange(_GuestChange):
    """The guest's backup was ended before the release, and its scratch files are gone. Its checkpoint stays."""

    change: Literal["freed"] = "freed"


class BackupChange(_GuestChange):
    """A backup was begun, and a checkpoint with it."""

    change: Literal["backup"] = "backup"
    socket: Path
    checkpoint: str | None
    repository_id: str


class HoldChange(_GuestChange):
    """The guest was held."""

    change: Literal["hold"] = "hold"
    hold: HoldKind


class LetGoChange(_GuestChange):
    """The guest was let go and has confirmed it: the hold before this line needs no undoing any more."""

    change: Literal["let-go"] = "let-go"


AnyChange = (
    ClaimChange
    | ReservationChange
    | ScratchChange
    | BackupChange
    | HoldChange
    | LetGoChange
    | GivenUpChange
    | FreedChange
)


class _Line(RootModel[Annotated[AnyChange, Field(discriminator="change")]]):
    """A line of the journal."""


class CaptureJournal:
    """The journal of one capture on this host."""

    def __init__(self, directory: Path) -> None:
        self.capture_id = directory.name
        self._directory = directory
        self._changes = directory / "changes"
        self._begun = directory / "begun"
        self._results = directory / "results"
        self._ended = directory / "ended"

    def record(self, change: AnyChange) -> None:
        """Put a change on stable storage. Call it before making the change."""
        durable.make_directory(self._directory)
        durable.append_line(self._changes, change.model_dump_json())

    def changes(self) -> list[AnyChange]:
        """All recorded changes, oldest first."""
        if not self._changes.exists():
            return []
        lines = self._changes.read_text(encoding="utf-8", errors="replace").splitlines()
        return [change for line in lines if (change := _parse(line)) is not None]

    @property
    def ended(self) -> bool:
        return self._ended.exists()

    def end(self) -> None:
        """Nothing is left to undo."""
        durable.make_directory(self._directory)
        durable.replace(self._ended, "")

    def result(self, step: Step, part: str) -> str | None:
        """The stored result of a step, as JSON."""
        path = self._results / _result_name(step, part)
        return path.read_text(encoding="utf-8") if path.exists() else None

    def store_result(self, step: Step, part: str, result: str) -> None:
        durable.make_directory(self._results)
        durable.replace(self._results / _result_name(step, part), result)

    def results(self) -> list[tuple[Step, str, str]]:
        """All stored results: step, part, JSON."""
        names = [path.name for path in self._results.glob("*.json") if not path.name.startswith(".")]
        keys = [name.removesuffix(".json").partition(".") for name in sorted(names)]
        return [(Step(step), part, self.result(Step(step), part) or "") for step, _, part in keys]

    def begun(self, step: Step, part: str) -> bool:
        """Whether the step was begun, by this process or one before."""
        return (self._begun / _result_name(step, part)).exists()

    def record_begun(self, step: Step, part: str, order: str) -> None:
        durable.make_directory(self._begun)
        durable.replace(self._begun / _result_name(step, part), order)

    def unanswered(self, step: Step) -> list[str]:
        """The orders of this step that were begun and have no result: at work, or interrupted. The lock tells which."""
        if not self._begun.exists():
            return []
        names = [path.name for path in self._begun.glob(f"{step}.*") if not path.name.startswith(".")]
        return [
            (self._begun / name).read_text(encoding="utf-8")
            for name in sorted(names)
            if not (self._results / name).exists()
        ]

    @contextmanager
    def lock(self, step: Step, part: str, *, wait: bool = True) -> Iterator[None]:
        """Keep a second delivery of an order waiting while the first is at work, in this process or another.

        Without `wait` raises BlockingIOError if one is. The kernel drops the lock of a process that dies. Only transfers
        have a lock for each part: of the steps that change guests one order is at work at a time, whatever its part.
        """
        durable.make_directory(self._results)
        name = _result_name(step, part if step is Step.TRANSFER else "")
        with (self._results / f".{name}.lock").open("w") as file:
            flock(file, LOCK_EX if wait else LOCK_EX | LOCK_NB)
            yield

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """No step that changes guests is at work on this host, nor begins one, within this block.

        Raises BlockingIOError if one is. Else what it does next would be undone by nobody.
        """
        with ExitStack() as locks:
            for step in (Step.PREPARE, Step.HOLD, Step.RELEASE):
                locks.enter_context(self.lock(step, "", wait=False))
            yield


class Journal:
    """All journals of one host."""

    def __init__(self, state_dir: Path) -> None:
        self._captures = state_dir / "captures"
        durable.make_directory(self._captures)

    def of(self, capture_id: CaptureId) -> CaptureJournal:
        return CaptureJournal(self._captures / capture_id)

    def all(self) -> list[CaptureJournal]:
        """Oldest first."""
        return [CaptureJournal(path) for path in sorted(self._captures.iterdir()) if path.is_dir()]

    def unended(self) -> list[CaptureJournal]:
        """Captures that this host still has something to do for, oldest first."""
        return [journal for journal in self.all() if not journal.ended]

    def prune(self) -> None:
        """Forget the oldest ended captures beyond those kept."""
        ended = [journal for journal in self.all() if journal.ended]
        for journal in ended[:-KEPT]:
            shutil.rmtree(self._captures / journal.capture_id)


def _parse(line: str) -> AnyChange | None:
    try:
        return _Line.model_validate_json(line).root
    except ValidationError:
        return None


def _result_name(step: Step, part: str) -> str:
    return f"{step}.{part}.json" if part else f"{step}.json"
