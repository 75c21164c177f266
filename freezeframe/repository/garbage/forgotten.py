"""Forgotten manifests: no capture any more, but what an incremental may have been begun upon.

    manifests/X ──forget──▶ forgotten/X ──a run──▶ condemned/<run>/manifests/X ──the run is ripe──▶ deleted

Until the run that has condemned it is ripe, a session may be live that chose it as a parent. So what it refers to *lingers*: it
may be condemned, but not deleted. A manifest may move while this looks for it, but never to a place where it was before: so two
looks that see the same have seen all there was in between. If they do not, nothing is deleted this time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

import structlog

from freezeframe.repository.errors import ManifestDamaged, NewerFormat, ObjectDamaged, ObjectNotFound
from freezeframe.repository.layout import FORGOTTEN, MANIFESTS, condemned_name
from freezeframe.repository.manifest import parse_manifest

if TYPE_CHECKING:
    from freezeframe.repository.garbage.decision import Situation
    from freezeframe.repository.garbage.record import Records, RunRecord
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository
    from freezeframe.repository.store.backend import Entry

log = structlog.get_logger("garbage")

#: A forgotten manifest that cannot be read keeps nothing: nobody can have begun upon what it refers to.
_UNREADABLE: Final = (ManifestDamaged, ObjectDamaged)


@dataclass
class Forgotten:
    """The forgotten manifests that were found, by where they are; and what the lingering ones say."""

    loose: list[Entry] = field(default_factory=list)
    condemned: dict[RunRecord, list[Entry]] = field(default_factory=dict)
    lingering: list[Manifest] = field(default_factory=list)
    certain: bool = True  # nothing moved meanwhile

    @property
    def places(self) -> set[str]:
        return {entry.name for entry in chain(self.loose, *self.condemned.values())}


def find_forgotten(repository: Repository, records: Records, situation: Situation) -> Forgotten:
    """To be called after manifests were listed: what is forgotten later was among those. Raises RepositoryNotReadable."""
    found, again = _look(repository, records), _look(repository, records)
    found.certain = found.places == again.places
    waiting = (entries for one, entries in found.condemned.items() if not situation.is_ripe(one))
    for entry in chain(found.loose, *waiting):
        try:
            found.lingering += _read(repository, entry)
        except ObjectNotFound:
            found.certain = False
    return found


def _look(repository: Repository, records: Records) -> Forgotten:
    store = repository.store
    loose = list(store.entries(FORGOTTEN))
    condemned = {one: list(store.entries(condemned_name(one.run_id, MANIFESTS))) for one in records.all()}
    return Forgotten(loose, condemned)


def _read(repository: Repository, entry: Entry) -> list[Manifest]:
    """The manifest; none if it cannot be read. Raises NewerFormat for one that a newer version has written."""
    protection = repository.objects.protection
    name = f"{MANIFESTS}/{entry.name.rpartition('/')[2]}"
    capture_id = protection.capture_id_of(name)
    if capture_id is None:
        return []
    stored = repository.store.get(entry.name)
    try:
        return [parse_manifest(protection.reveal(name, stored), capture_id, entry.name)]
    except NewerFormat as error:
        raise NewerFormat(f"{error.message} Nothing was collected.") from error
    except _UNREADABLE as error:
        log.warning("a forgotten manifest cannot be read, and keeps nothing", why=error.message)
        return []
