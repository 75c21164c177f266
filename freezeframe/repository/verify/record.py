"""Records: when each folder of chunks was last verified at each tier, kept in the repository, so that hosts take turns.

They are advice. One that is missing, damaged or refused by the storage means "never", and is written over. One that a newer
version has written means "never" too, and is left alone; its folder comes up after all others, or it would be the first in
every turn.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt

from freezeframe.contract.message import CaptureId
from freezeframe.repository.layout import FAN_OUT, VERIFIED, verified_name
from freezeframe.repository.notice import Notice, Unread, Why, look_at_notice
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


class _Record(Notice):
    format: Literal[1] = 1


class Verified(BaseModel):
    """One look at all chunks of a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    chunks: NonNegativeInt
    bytes: NonNegativeInt  # read, as stored
    damaged: NonNegativeInt = 0


class FolderRecord(_Record):
    tiers: dict[Tier, Verified] = Field(default_factory=dict)

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


_INDEXES_FIELDS: Final = ("at", "captures", "indexes", "damaged", "newest")


class RestoredRecord(_Record):
    """Which captures were restored for a test, and when."""

    captures: dict[CaptureId, Annotated[datetime, AwareDatetime]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Records:
    """All records of a repository; folders by the first two hex digits of the names in them."""

    folders: Mapping[str, FolderRecord] = field(default_factory=dict)
    indexes: IndexesRecord | None = None
    restored: RestoredRecord = field(default_factory=RestoredRecord)
    newer: frozenset[str] = frozenset()  # folders whose records a newer version has written
    unreadable: tuple[str, ...] = ()  # why records cannot be read that the storage refuses: they say nothing

    def last(self, folder: str, tier: Tier) -> datetime | None:
        record = self.folders.get(folder)
        return None if record is None else record.last(tier)

    def never(self, tier: Tier) -> int:
        """Return the number of folders that were never verified at that tier or a closer one."""
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
        found = dict(zip(wanted, pool.map(lambda folder: _folder(objects, folder), wanted), strict=True))
    indexes, restored = _known(objects, _INDEXES, IndexesRecord), _known(objects, _RESTORED, RestoredRecord)
    unread = {folder: record for folder, record in found.items() if isinstance(record, Unread)}
    others = [one for one in (indexes, restored) if isinstance(one, Unread)]
    return Records(
        {folder: record for folder, record in found.items() if isinstance(record, FolderRecord)},
        indexes if isinstance(indexes, IndexesRecord) else None,
        restored if isinstance(restored, RestoredRecord) else RestoredRecord(),
        frozenset(folder for folder, one in unread.items() if one.why is Why.NEWER),
        tuple(one.reason for one in (*unread.values(), *others) if one.why is Why.UNREADABLE),
    )


def read_folder(objects: Objects, folder: str) -> FolderRecord | None:
    """Return a folder's record without what it says of the future, which would keep the folder from being verified until then.

    None if there is none that this version can read.
    """
    found = _folder(objects, folder)
    return found if isinstance(found, FolderRecord) else None


def _folder(objects: Objects, folder: str) -> FolderRecord | Unread | None:
    record = _known(objects, folder, FolderRecord)
    if not isinstance(record, FolderRecord):
        return record
    latest = datetime.now(UTC) + _CLOCKS_APART
    return record.changed({"tiers": {tier: one for tier, one in record.tiers.items() if one.at <= latest}})


def write_folder(objects: Objects, folder: str, tier: Tier, verified: Verified) -> None:
    """Note a look at a folder; what other tiers say stays. Raises RepositoryNotWritable and RepositoryFull."""
    before = _before(_folder(objects, folder), FolderRecord())
    if before is not None:
        _write(objects, folder, before.changed({"tiers": {**before.tiers, tier: verified}}))


def write_indexes(objects: Objects, record: IndexesRecord) -> None:
    """Note that all indexes were read."""
    before = _before(_known(objects, _INDEXES, IndexesRecord), record)
    if before is not None:
        _write(objects, _INDEXES, before.changed({field: getattr(record, field) for field in _INDEXES_FIELDS}))


def write_restored(objects: Objects, captures: Mapping[str, datetime]) -> None:
    """Note captures that were restored and compared."""
    before = _before(_known(objects, _RESTORED, RestoredRecord), RestoredRecord())
    if before is not None:
        latest = sorted({**before.captures, **captures}.items(), key=lambda one: one[1], reverse=True)
        _write(objects, _RESTORED, before.changed({"captures": dict(latest[:_RESTORED_KEPT])}))


def _before(found: RecordT | Unread | None, otherwise: RecordT) -> RecordT | None:
    """Return the record to change; None if a newer version has written it, which must stay."""
    if isinstance(found, Unread):
        return None if found.why is Why.NEWER else otherwise
    return otherwise if found is None else found


def _known(objects: Objects, what: str, model: type[RecordT]) -> RecordT | Unread | None:
    """Return a record; None if it is not there or damaged."""
    return look_at_notice(objects, verified_name(what), model)


def _write(objects: Objects, what: str, record: _Record) -> None:
    name = verified_name(what)
    objects.store.put(name, BytesIO(record.stored(objects, name)))
