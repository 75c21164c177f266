"""Forgotten manifests: no capture any more, but what an incremental may have been begun upon.

    manifests/X ──forget──▶ forgotten/X ──a run──▶ condemned/<run>/manifests/X ──the run is ripe──▶ deleted

Until the run that has condemned it is ripe, a session may be live that chose it as a parent. So what it refers to *lingers*: it
may be condemned, but not deleted. A manifest may move while this looks for it, but never to a place where it was before: so two
looks that see the same have seen all there was in between. If they do not, nothing is deleted this time.

A forgotten manifest that cannot be read, or one whose index cannot be read, may keep any object: the incremental upon it was
begun while it could be read. It *holds up* every deletion until its run is ripe. A newer one stops the run, at any age.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import structlog

from freezeframe.repository.errors import (
    ManifestDamaged,
    NewerFormat,
    ObjectDamaged,
    ObjectNotFound,
    RepositoryNotReadable,
)
from freezeframe.repository.garbage.report import Held
from freezeframe.repository.layout import FORGOTTEN, MANIFESTS, condemned_name
from freezeframe.repository.manifest import parse_manifest
from freezeframe.repository.store.fault import of_the_medium

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from freezeframe.repository.garbage.decision import Situation
    from freezeframe.repository.garbage.record import Records, RunRecord
    from freezeframe.repository.garbage.references import Unread
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository
    from freezeframe.repository.store.backend import Entry

log = structlog.get_logger("garbage")


@dataclass
class Forgotten:
    """The forgotten manifests that were found, by where they are; and what the lingering ones say."""

    loose: list[Entry] = field(default_factory=list)
    condemned: dict[RunRecord, list[Entry]] = field(default_factory=dict)
    lingering: list[Manifest] = field(default_factory=list)
    ripe_at: dict[str, datetime] = field(default_factory=dict)  # of lingering captures: when nobody can count on them
    held: list[Held] = field(default_factory=list)  # manifests that cannot be read
    certain: bool = True  # nothing moved meanwhile

    @property
    def places(self) -> set[str]:
        return {entry.name for entry in chain(self.loose, *self.condemned.values())}

    @property
    def each(self) -> Iterator[tuple[Entry, RunRecord | None]]:
        """Give every manifest with its run, and None for one that no run has condemned yet."""
        yield from ((entry, None) for entry in self.loose)
        for record, entries in self.condemned.items():
            yield from ((entry, record) for entry in entries)

    def held_up_by(self, unread: Mapping[str, Unread], now: datetime) -> list[Held]:
        """Return everything that holds up deletion: manifests, and these indexes, by the names of their objects."""
        indexes = [
            Held(name, one.reason, max(self.ripe_at.get(capture, now) for capture in one.captures))
            for name, one in unread.items()
        ]
        return [*self.held, *indexes]


def find_forgotten(repository: Repository, records: Records, situation: Situation) -> Forgotten:
    """Find and read them, to be called after manifests were listed: what is forgotten later was among those.

    Raises NewerFormat for one that a newer version has written, RepositoryNotReadable.
    """
    found, again = list_forgotten(repository, records), list_forgotten(repository, records)
    found.certain = found.places == again.places
    for entry, record in found.each:
        finished_at = record.finished_at if record else None
        ripe_at = situation.ripe_at(finished_at or situation.now)
        ripe = record is not None and situation.is_ripe(record)
        try:
            manifest = read_forgotten(repository, entry)
        except NewerFormat as error:
            raise NewerFormat(f"{error.message} Nothing was collected.") from error
        except ObjectNotFound:
            found.certain = found.certain and ripe
        except (ManifestDamaged, ObjectDamaged, RepositoryNotReadable) as error:
            if isinstance(error, RepositoryNotReadable) and not of_the_medium(error):
                raise
            if not ripe:
                log.warning("a forgotten manifest cannot be read, and holds up deletion", why=error.message)
                found.held.append(Held(entry.name, error.message, ripe_at))
        else:
            if not ripe:
                found.lingering.append(manifest)
                found.ripe_at[manifest.capture_id] = max(ripe_at, found.ripe_at.get(manifest.capture_id, ripe_at))
    return found


def list_forgotten(repository: Repository, records: Records) -> Forgotten:
    """Return where forgotten manifests are now; nothing is read of them. Raises SessionDamaged, NewerFormat for a record."""
    store = repository.store
    loose = list(_manifests(repository, store.entries(FORGOTTEN)))
    condemned = {
        one: list(_manifests(repository, store.entries(condemned_name(one.run_id, MANIFESTS)))) for one in records.all()
    }
    return Forgotten(loose, condemned)


def _manifests(repository: Repository, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Give those with a manifest's name: anything else in the folder was put there by somebody else."""
    return (entry for entry in entries if forgotten_capture(repository, entry) is not None)


def forgotten_capture(repository: Repository, entry: Entry) -> str | None:
    """Return the capture of which that is the manifest; None if it is no manifest's name."""
    return repository.objects.protection.capture_id_of(f"{MANIFESTS}/{entry.name.rpartition('/')[2]}")


def read_forgotten(repository: Repository, entry: Entry) -> Manifest:
    """Return the manifest. Raises NewerFormat, ManifestDamaged, ObjectDamaged, ObjectNotFound and RepositoryNotReadable."""
    capture_id = forgotten_capture(repository, entry)
    assert capture_id is not None  # noqa: S101  others were left out
    stored = repository.store.get(entry.name)
    name = f"{MANIFESTS}/{entry.name.rpartition('/')[2]}"
    return parse_manifest(repository.objects.protection.reveal(name, stored), capture_id, entry.name)
