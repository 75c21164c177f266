"""The journal: a host's own durable record of every change it made to a guest that must be undone.

    <state_dir>/captures/<capture id>/<guest uuid>/changes   a JSON line a change, on disk before the change is made
                                                  /.lock     who is at work on the guest, for this capture
                                     /begun/     the order of each step that was begun
                                     /results/   the result of each step, so that an order delivered twice is answered alike
                                     /ended      all is undone or kept for good; nothing is left to do

Each guest has a file and a lock of its own: one that hangs or cannot be read delays no other.

Crash windows. After a line and before its change: undoing it finds nothing to undo, which is fine, since every undo asks
what is there first. In the middle of a line: the change was not made; a part of a line at a file's end is passed over. After
the undo and before `ended`: it is undone a second time, to no effect.

Versions. Every line carries the version of its format. Lines of older versions are read; a line of a newer one, with a field
or a change that this version does not know, or one that is damaged is *not understood*: its guest is stuck and reported, the
changes that are understood are undone, and its claim stays. A line is never passed over as if it were not there.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from freezeframe.contract.message import CaptureId
from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError
from workers import durable
from workers.changes import (
    AnyChange,
    BackupChange,
    ClaimChange,
    FreedChange,
    GivenUpChange,
    HoldChange,
    LeftChange,
    LetGoChange,
    ReservationChange,
    ScratchChange,
    ThawPendingChange,
    read_lines,
)
from workers.lock_file import NoLockFileError, locked, locked_within

__all__ = [
    "AnyChange",
    "BackupChange",
    "CaptureJournal",
    "ClaimChange",
    "FreedChange",
    "GivenUpChange",
    "GuestJournal",
    "HoldChange",
    "Journal",
    "JournalUnreadableError",
    "LeftChange",
    "LetGoChange",
    "Record",
    "ReservationChange",
    "ScratchChange",
    "ThawPendingChange",
]

#: Ended captures whose journals are kept, so that late orders are answered alike and people can look.
KEPT = 50

_CAPTURE = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_GUEST = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class JournalUnreadableError(FreezeframeError):
    """A journal has a line that this version does not understand, or that is damaged."""

    code = "journal-unreadable"
    advice = (
        "If a newer version of freezeframe wrote it, install that version again and run `freezeframe recover`. If not, see "
        "what the guest has (`virsh domjobinfo`, `virsh checkpoint-list`), move the file away and run `freezeframe recover`."
    )


@dataclass(frozen=True)
class Record:
    """The content of one guest's journal: the changes that are understood, and why others are not."""

    changes: tuple[AnyChange, ...]
    trouble: str | None = None


class GuestJournal:
    """The journal of one guest of one capture on this host."""

    def __init__(self, directory: Path, guest_uuid: str) -> None:
        self.guest_uuid = guest_uuid
        self._directory = directory / guest_uuid
        self._changes = self._directory / "changes"
        self._older = directory / "changes"  # of all guests: where versions before this layout wrote

    def record(self, change: AnyChange) -> None:
        """Put a change on stable storage. Call it before making the change. Raises OSError if it cannot be put there."""
        if not self._changes.exists():
            durable.make_directory(self._directory.parent)
            durable.make_directory(self._directory)
        durable.append_line(self._changes, change.model_dump_json())

    def read(self) -> Record:
        """Return what is recorded, oldest first. Never raises: what cannot be read is the record's trouble."""
        changes: list[AnyChange] = []
        troubles = []
        for path in (self._older, self._changes):
            try:
                found, trouble = read_lines(durable.read(path) or "")
            except OSError as error:
                troubles.append(f"{path} cannot be read: {error.strerror or error}")
                continue
            changes += [change for change in found if change.guest_uuid == self.guest_uuid]
            if trouble:
                troubles.append(f"{path}: {trouble}")
        return Record(tuple(changes), "; ".join(troubles) or None)

    def changes(self) -> tuple[AnyChange, ...]:
        """Return what is recorded, oldest first. Raises JournalUnreadableError if not all of it is understood."""
        record = self.read()
        if record.trouble:
            raise JournalUnreadableError(f"{record.trouble}.")
        return record.changes

    @contextmanager
    def lock(self, patience_s: float = 0.0) -> Iterator[None]:
        """Keep all others from working on the guest for this capture, in this process and others.

        Raises BlockingIOError if another has the lock for longer than `patience_s`. The kernel drops the lock of a process
        that dies.
        """
        with locked_within(self._directory, ".lock", patience_s):
            yield


class CaptureJournal:
    """The journal of one capture on this host."""

    def __init__(self, directory: Path) -> None:
        self.capture_id = directory.name
        self._directory = directory
        self._begun = directory / "begun"
        self._results = directory / "results"
        self._ended = directory / "ended"

    def guest(self, guest_uuid: str) -> GuestJournal:
        return GuestJournal(self._directory, guest_uuid)

    def guests(self) -> list[str]:
        """Return the guests that the capture has a journal for. Raises OSError."""
        older, _ = read_lines(durable.read(self._directory / "changes") or "")
        names = {path.name for path in _inside(self._directory) if _GUEST.fullmatch(path.name)}
        return sorted(names | {change.guest_uuid for change in older})

    def record(self, change: AnyChange) -> None:
        """Put a change on stable storage. Call it before making the change."""
        self.guest(change.guest_uuid).record(change)

    def changes(self) -> list[AnyChange]:
        """Return all recorded changes, of each guest oldest first. Raises JournalUnreadableError, OSError."""
        return [change for uuid in self.guests() for change in self.guest(uuid).changes()]

    @property
    def ended(self) -> bool:
        """Return True if nothing is left to undo. Raises OSError."""
        return self._ended.exists()

    def end(self) -> None:
        """Record durably that nothing is left to undo."""
        durable.make_directory(self._directory)
        durable.replace(self._ended, "")

    def result(self, step: Step, part: str) -> str | None:
        """Return the stored result of a step, as JSON. Raises OSError."""
        return durable.read(self._results / _result_name(step, part))

    def store_result(self, step: Step, part: str, result: str) -> None:
        durable.make_directory(self._directory)
        durable.make_directory(self._results)
        durable.replace(self._results / _result_name(step, part), result)

    def results(self) -> list[tuple[str, str, str]]:
        """Return all stored results: step, part, JSON. A newer version's steps are among them. Raises OSError."""
        found = []
        for path in _inside(self._results):
            text = durable.read(path) if path.suffix == ".json" else None
            if text is not None:
                step, _, part = path.name.removesuffix(".json").partition(".")
                found.append((step, part, text))
        return found

    def result_paths(self, step: Step) -> list[Path]:
        """Return where the results of one step are stored. Raises OSError."""
        return [path for path in _inside(self._results) if path.suffix == ".json" and path.stem.split(".")[0] == step]

    def begun(self, step: Step, part: str) -> bool:
        """Return True if the step was begun, by this process or one before. Raises OSError."""
        return (self._begun / _result_name(step, part)).exists()

    def record_begun(self, step: Step, part: str, order: str) -> None:
        durable.make_directory(self._directory)
        durable.make_directory(self._begun)
        durable.replace(self._begun / _result_name(step, part), order)

    def unanswered(self, step: Step) -> list[Path]:
        """Return the orders of this step that were begun and have no result: at work, or interrupted. The lock tells which."""
        paths = [path for path in _inside(self._begun) if path.name.startswith(f"{step}.")]
        return [path for path in paths if not (self._results / path.name).exists()]

    @contextmanager
    def lock(self, step: Step, part: str, *, wait: bool = True, patience_s: float | None = None) -> Iterator[None]:
        """Keep other orders of a step waiting while one is at work, in this process or another (`orders_at_work`).

        Raises BlockingIOError if it is for longer than `patience_s`, or at once without `wait`. The kernel drops the lock of a
        process that dies. Only transfers have a lock for each part: of the steps that change guests one order is at work at a
        time, whatever its part. Raises NoLockFileError on a file system that is full or read-only if nobody has the lock.
        """
        name = _result_name(step, part if step is Step.TRANSFER else "")
        with locked_within(self._results, f".{name}.lock", patience_s if wait else 0.0):
            yield

    @contextmanager
    def at_rest(self, patience_s: float = 0.0, *, releasing: bool = False) -> Iterator[None]:
        """Within this block no step that changes guests is at work on this host, nor begins.

        Raises BlockingIOError if one is at work for longer than `patience_s`: what it does next would be undone by nobody. A
        caller that is `releasing` is such a step itself.
        """
        deadline = time.monotonic() + patience_s
        with ExitStack() as locks:
            for step in (Step.PREPARE, Step.HOLD) if releasing else (Step.PREPARE, Step.HOLD, Step.RELEASE):
                with suppress(
                    NoLockFileError
                ):  # on a full disk: nobody is at work on the step, nor begins it without a lock
                    locks.enter_context(self.lock(step, "", patience_s=max(0.0, deadline - time.monotonic())))
            yield


class Journal:
    """All journals of one host."""

    def __init__(self, state_dir: Path) -> None:
        self._captures = state_dir / "captures"
        self._removed = state_dir / "removed"
        self._prune_lock = state_dir / "prune.lock"
        durable.make_directory(self._captures)

    def of(self, capture_id: CaptureId) -> CaptureJournal:
        return CaptureJournal(self._captures / capture_id)

    def is_settled(self, capture_id: CaptureId, guest_uuid: str) -> bool:
        """Return True if the capture's hold has let the guest go and no call is pending; False also if that cannot be read."""
        record = self.of(capture_id).guest(guest_uuid).read()
        return not record.trouble and any(isinstance(one, LetGoChange) and one.settled for one in record.changes)

    def all(self) -> list[CaptureJournal]:
        """Return the journals of all captures, oldest first."""
        names = sorted(path.name for path in self._captures.iterdir() if _CAPTURE.fullmatch(path.name))
        return [CaptureJournal(self._captures / name) for name in names]

    def unended(self) -> list[CaptureJournal]:
        """Return the captures that this host still has something to do for, oldest first; among them those it cannot read."""
        return [journal for journal in self.all() if not _has_ended(journal)]

    def prune(self) -> None:
        """Forget the oldest ended captures beyond those kept.

        A journal leaves its name in one step, so that half of one is never seen, and by one caller at a time.
        """
        with suppress(BlockingIOError), locked(self._prune_lock, 0.0):
            self._removed.mkdir(mode=0o700, exist_ok=True)
            ended = [journal for journal in self.all() if _has_ended(journal)]
            for journal in ended[:-KEPT]:
                (self._captures / journal.capture_id).rename(self._removed / secrets.token_hex(8))
            for path in self._removed.iterdir():  # and what a crash has left of earlier ones
                shutil.rmtree(path)


def _inside(folder: Path) -> list[Path]:
    """Return what is in a folder, but for hidden files. Raises OSError: a folder that cannot be read is not empty."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def _has_ended(journal: CaptureJournal) -> bool:
    """Return False also for a journal that cannot be read: it must be reported."""
    try:
        return journal.ended
    except OSError:
        return False


def _result_name(step: Step, part: str) -> str:
    return f"{step}.{part}.json" if part else f"{step}.json"
