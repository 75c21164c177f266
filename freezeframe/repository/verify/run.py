"""The steps of every verification: review `damaged/`, look at chunks and indexes, set damaged ones aside, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezeframe.repository.age import drift_allowed
from freezeframe.repository.aside import Kind, set_aside
from freezeframe.repository.errors import ClockDrift, DeletesRefused, RepositoryFull, RepositoryNotWritable
from freezeframe.repository.layout import FAN_OUT, digest_of
from freezeframe.repository.referenced import chunks_of
from freezeframe.repository.store.keeping import check_may_delete
from freezeframe.repository.store_clock import measure
from freezeframe.repository.verify.looking import Fault, look_at_all, look_at_index
from freezeframe.repository.verify.report import Damage, Findings, OnProgress, Progress, VerifyReport
from freezeframe.repository.verify.restraint import Restraint
from freezeframe.repository.verify.review import review
from freezeframe.repository.whereabouts import places_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from freezeframe.repository.index import Index
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.marks import Marks
    from freezeframe.repository.repository import Repository
    from freezeframe.repository.verify.report import Tier


def _store_time(repository: Repository) -> datetime | None:
    """Return the store's time; None if nothing can be put there, so that nothing can be compared. Raises ClockDrift."""
    try:
        return measure(repository.store, repository.sessions.clock, drift_allowed()).theirs
    except ClockDrift as error:
        error.hint = f"{error.hint} Until then `freezeframe verify --no-set-aside` verifies and changes nothing."
        raise
    except (RepositoryFull, RepositoryNotWritable):
        return None


def _check_may_set_aside(repository: Repository) -> None:
    try:
        check_may_delete(repository.store, "verify --set-aside")
    except DeletesRefused as error:
        error.hint = f"Here `freezeframe verify --no-set-aside` verifies and changes nothing. {error.hint}"
        raise


class Run:
    """One verification. `aside`: damaged objects are set aside, and what was is reviewed; without it nothing is changed.

    `at_most`: how many are set aside, instead of a share of what was looked at (`restraint.py`). With `aside` it raises
    ClockDrift if this host's clock is too far from the store's, and DeletesRefused on a machine that takes nothing away.
    """

    def __init__(
        self,
        repository: Repository,
        tier: Tier,
        on_progress: OnProgress | None,
        *,
        aside: bool,
        at_most: int | None = None,
    ) -> None:
        if aside:
            _check_may_set_aside(repository)
        repository.check_there()
        self.repository = repository
        self.objects = repository.objects.as_verified()
        self._restraint = Restraint(at_most)
        self.tier = tier
        self.found = Findings()
        self.folders: list[str] = []
        self.chunks_total: int | None = None
        self._on_progress = on_progress
        self._aside = aside
        self.review = review(repository, change=aside, now=_store_time(repository) if aside else None)

    def chunks(self, captures: Iterable[Manifest], folders: Sequence[str] = FAN_OUT) -> Marks:
        """Return the chunks in these folders that captures refer to; to be closed. Reads each index once.

        What cannot be read of them is found damaged. Raises RepositoryNotReadable.
        """
        return chunks_of(self.objects, captures, self._open_index, folders)

    def _open_index(self, digest: str) -> Index | None:
        self.found.indexes_checked += 1
        index = look_at_index(self.objects, digest_of(digest))
        if not isinstance(index, Fault):
            return index
        if index.newer:
            self.found.newer_indexes[digest] = index.reason
        else:
            self.found.indexes[digest] = self.review.reason(digest, index.reason)
            self._set_aside(Kind.INDEX, digest_of(digest), index)
        return None

    def look_at(self, chunks: Iterable[bytes]) -> bool:
        """Look at each chunk; True if the store could say something of all of them. Raises RepositoryNotReadable."""
        readable = True
        for look in look_at_all(self.objects, self.tier, chunks, self.repository.config.chunk_bytes):
            self.found.chunks_checked += 1
            self.found.bytes_read += look.stored_bytes
            self.found.bad_reads += look.bad_read
            if look.fault is not None and look.fault.newer:
                self.found.newer_chunks[look.digest] = look.fault.reason
                readable = False
            elif look.fault is not None:
                self.found.chunks[look.digest] = self.review.reason(look.digest.hex(), look.fault.reason)
                self._set_aside(Kind.CHUNK, look.digest, look.fault)
                readable = readable and look.fault.certain
            self.tell()
        return readable

    def tell(self) -> None:
        if self._on_progress is not None:
            found = self.found
            self._on_progress(Progress(found.chunks_checked, found.bytes_read, len(self.folders), self.chunks_total))

    def _set_aside(self, kind: Kind, digest: bytes, fault: Fault) -> None:
        """At once, so that a run that is interrupted has done it."""
        if not self._aside or not fault.in_bytes:
            return
        looked_at = self.found.chunks_checked + self.found.indexes_checked
        restrained = self._restraint.reason(looked_at, len(self.found.aside), self.found.bad_reads)
        if restrained is not None:
            self.found.restrained = self.found.restrained or restrained
            return
        try:
            if set_aside(self.objects, kind, digest, fault.reason):
                self.found.aside.add(digest.hex())
        except (RepositoryNotWritable, RepositoryFull) as error:
            self.found.note(f"What is damaged could not be set aside: {error.message}")

    def report(self, captures: Sequence[Manifest], *, restores: Sequence[Damage] = ()) -> VerifyReport:
        """Return the findings, with the objects of these captures that had been set aside before."""
        wanted = {one.capture_id for one in captures}
        indexes, chunks = dict(self.found.indexes), {one.hex(): why for one, why in self.found.chunks.items()}
        for digest, document in self.review.still.items():
            if any(place.capture_id in wanted for place in self.review.places[digest]):
                into = chunks if document.kind is Kind.CHUNK else indexes
                into.setdefault(digest, self.review.reason(digest, ""))
        aside = self.found.aside | self.review.still.keys()
        newer = {**self.found.newer_indexes, **{one.hex(): why for one, why in self.found.newer_chunks.items()}}
        all_indexes = set(indexes) | set(self.found.newer_indexes)
        all_chunks = {digest_of(one) for one in chunks} | set(self.found.newer_chunks)
        places = places_of(self.repository, all_indexes, all_chunks) if all_indexes or all_chunks else {}

        def damages(reasons: dict[str, str]) -> tuple[Damage, ...]:
            return tuple(
                Damage(one, why, places[one], set_aside=one in aside)
                for one, why in reasons.items()
                if places[one]  # else the last capture of it was forgotten meanwhile
            )

        damaged = (*damages(indexes), *damages(chunks), *restores)
        return VerifyReport(
            tier=self.tier,
            captures=tuple(one.capture_id for one in captures),
            chunks_checked=self.found.chunks_checked,
            bytes_read=self.found.bytes_read,
            indexes=damages(indexes),
            chunks=damages(chunks),
            folders=tuple(self.folders),
            restores=tuple(restores),
            repaired=tuple(self.review.repaired),
            put_back=tuple(self.review.put_back),
            whole_again=self.review.whole_again(place.capture_id for one in damaged for place in one.places),
            bad_reads=self.found.bad_reads,
            restrained=self.found.restrained,
            newer=damages(newer),
            notes=(*self.review.notes, *self.found.notes),
        )
