"""Records: when each folder of chunks was last verified at each tier, kept in the repository, so that hosts take turns.

They are advice. One that is missing, damaged or of an unknown format means "never", and is written over.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, ValidationError

from freezeframe.contract.message import CaptureId
from freezeframe.repository.document import checked, read_content
from freezeframe.repository.errors import NewerFormat, ObjectDamaged, ObjectNotFound
from freezeframe.repository.layout import FAN_OUT, VERIFIED, verified_name
from freezeframe.repository.verify.report import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezeframe.repository.objects import Objects

RecordT = TypeVar("RecordT", bound="_Record")

_INDEXES: Final = "indexes"
_RESTORED: Final = "restored"

#: Object storage answers a GET in some 20 ms; 256 of them one after another would be five seconds.
_THREADS: Final = 8

#: What clocks of hosts may be apart.
_CLOCKS_APART: Final = timedelta(days=1)

#: Restored captures that are remembered, the latest.
_RESTORED_KEPT: Final = 100


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1


class Verified(BaseModel):
    """One look at all chunks of a folder."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: AwareDatetime
    chunks: NonNegativeInt
    bytes: NonNegativeInt  # read, as stored
    damaged: NonNegativeInt = 0


class FolderRecord(_Record):
    tiers: dict[Tier, Verified] = {}

    def last(self, tier: Tier) -> datetime | None:
        """When the folder was last verified at that tier or a closer one."""
        return max((self.tiers[one].at for one in tier.or_closer if one in self.tiers), default=None)


class IndexesRecord(_Record):
    """The last time that the indexes of all captures were read: those that there were, up to `newest`."""

    at: AwareDatetime
    captures: NonNegativeInt
    indexes: NonNegativeInt
    damaged: NonNegativeInt = 0
    newest: CaptureId | None = None


class RestoredRecord(_Record):
    """Which captures were restored for a test, and when."""

    captures: dict[CaptureId, Annotated[datetime, AwareDatetime]] = {}


@dataclass(frozen=True)
class Records:
    """All records of a repository; folders by the first two hex digits of the names in them."""

    folders: Mapping[str, FolderRecord] = field(default_factory=dict)
    indexes: IndexesRecord | None = None
    restored: RestoredRecord = field(default_factory=RestoredRecord)

    def last(self, folder: str, tier: Tier) -> datetime | None:
        record = self.folders.get(folder)
        return None if record is None else record.last(tier)

    def never(self, tier: Tier) -> int:
        """How many folders were never verified at that tier or a closer one."""
        return sum(self.last(folder, tier) is None for folder in FAN_OUT)

    def oldest(self, tier: Tier) -> datetime | None:
        """When the folder was verified that has waited longest; None if one never was."""
        times = [self.last(folder, tier) for folder in FAN_OUT]
        return None if None in times else min(filter(None, times))


def read_records(objects: Objects) -> Records:
    """Raises RepositoryNotReadable."""
    there = set(objects.store.names(VERIFIED))
    wanted = [folder for folder in FAN_OUT if verified_name(folder) in there]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda folder: read_folder(objects, folder), wanted)
        folders = {folder: record for folder, record in zip(wanted, found, strict=True) if record is not None}
    return Records(
        folders, _read(objects, _INDEXES, IndexesRecord), _read(objects, _RESTORED, RestoredRecord) or RestoredRecord()
    )


def read_folder(objects: Objects, folder: str) -> FolderRecord | None:
    """What is said to be of the future is left out: it would keep the folder from being verified until then."""
    record = _read(objects, folder, FolderRecord)
    if record is None:
        return None
    latest = datetime.now(UTC) + _CLOCKS_APART
    return FolderRecord(tiers={tier: one for tier, one in record.tiers.items() if one.at <= latest})


def write_folder(objects: Objects, folder: str, tier: Tier, verified: Verified) -> None:
    """Note a look at a folder; what other tiers say stays. Raises RepositoryNotWritable and RepositoryFull."""
    before = read_folder(objects, folder) or FolderRecord()
    _write(objects, folder, FolderRecord(tiers={**before.tiers, tier: verified}))


def write_indexes(objects: Objects, record: IndexesRecord) -> None:
    _write(objects, _INDEXES, record)


def write_restored(objects: Objects, captures: Mapping[str, datetime]) -> None:
    """Note captures that were restored and compared."""
    before = _read(objects, _RESTORED, RestoredRecord) or RestoredRecord()
    latest = sorted({**before.captures, **captures}.items(), key=lambda one: one[1], reverse=True)
    _write(objects, _RESTORED, RestoredRecord(captures=dict(latest[:_RESTORED_KEPT])))


def _read(objects: Objects, what: str, model: type[RecordT]) -> RecordT | None:
    name = verified_name(what)
    try:
        content = read_content(objects.protection.reveal(name, objects.store.get(name)))
        return None if content is None else model.model_validate_json(content)
    except (ObjectNotFound, ObjectDamaged, NewerFormat, ValidationError):
        return None


def _write(objects: Objects, what: str, record: _Record) -> None:
    name = verified_name(what)
    objects.store.put(name, BytesIO(objects.protection.protect(name, checked(record.model_dump(mode="json")))))
