"""The records of runs: which there are, and which have finished moving."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Literal, Self

from pydantic import AwareDatetime

from freezeframe.contract.message import CaptureId
from freezeframe.repository.errors import ObjectNotFound, SessionDamaged
from freezeframe.repository.layout import CONDEMNED, run_name
from freezeframe.repository.notice import Notice, read_notice

if TYPE_CHECKING:
    from datetime import datetime

    from freezeframe.repository.objects import Objects


class RunRecord(Notice):
    """As it stands in the repository. `finished_at`: after the last move into the run; None while it is at work, or died."""

    format: Literal[1] = 1
    run_id: CaptureId
    begun_at: AwareDatetime
    finished_at: AwareDatetime | None = None

    def by_store(self, stored_at: datetime | None) -> Self:
        """Return the record with the time of its object, by which it was finished, or begun."""
        if stored_at is None:
            return self
        if self.finished_at is None:
            return self.model_copy(update={"begun_at": stored_at})
        return self.model_copy(update={"finished_at": stored_at})


class Records:
    """The records in a repository."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, record: RunRecord) -> RunRecord:
        """Put it, settled when this returns; the record with times by the store's clock."""
        name = run_name(record.run_id)
        self._objects.store.put(name, BytesIO(record.stored(self._objects, name)))
        try:
            return record.by_store(self._objects.store.modified(name))
        except ObjectNotFound:  # this process was stopped, and another has done with the run
            return record

    def all(self) -> list[RunRecord]:
        """Return them oldest first, with times by the store's clock. Raises SessionDamaged.

        One that is deleted while this reads is not in the answer.
        """
        found = []
        for run_id in self._objects.condemned.runs():
            with suppress(ObjectNotFound):
                found.append(self.load(run_id))
        # listed after they were read: the time of what was read, or of a later object
        entries = self._objects.store.entries(CONDEMNED) if found else iter(())
        stored_at = {entry.name: entry.modified for entry in entries}
        return [one.by_store(stored_at.get(run_name(one.run_id))) for one in found]

    def delete(self, run_id: str) -> None:
        self._objects.store.delete(run_name(run_id))

    def load(self, run_id: str) -> RunRecord:
        """Raises ObjectNotFound, SessionDamaged and NewerFormat."""
        name = run_name(run_id)
        record = read_notice(self._objects, name, RunRecord)
        if record is None:
            raise SessionDamaged(
                f"The record of a garbage collection, {self._objects.store.address}/{name}, has other bytes than were "
                "written.",
                advice="Move what is in the folder of the same name beside it back to its own names; then delete the record.",
            )
        if record.run_id != run_id:
            raise SessionDamaged(f"The record {self._objects.store.address}/{name} is of another run, {record.run_id}.")
        return record
