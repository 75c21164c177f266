"""A copy from its beginning to its end, in the order of the package's drawing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from freezeframe.repository.aside import stems_aside
from freezeframe.repository.chain import Chain, read_chain
from freezeframe.repository.copying.capture import CaptureCopier
from freezeframe.repository.copying.chunks import CaptureError
from freezeframe.repository.copying.documents import copy_marks, copy_tombstones, tell_lacking, tidy_lacking
from freezeframe.repository.copying.lease import leased
from freezeframe.repository.copying.left import left_of, left_there
from freezeframe.repository.copying.plan import plan_of
from freezeframe.repository.copying.refusing import refuse_foreign
from freezeframe.repository.copying.report import CopyReport, OnProgress, Progress
from freezeframe.repository.copying.twin import check_other, slots_not_copied

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from freezeframe.repository.copying.lease import Lease
    from freezeframe.repository.copying.plan import Plan
    from freezeframe.repository.repository import Repository

#: By this others know the session of a copy.
PROGRAM: Final = "freezeframe repo copy"


@dataclass(frozen=True)
class Wanted:
    """The captures to which a copy is limited, None for all; and those of them that were named one by one."""

    chosen: Collection[str] | None = None
    named: Collection[str] = ()


def copy(
    source: Repository,
    destination: Repository | None,
    make: Callable[[], Repository],
    wanted: Wanted | None = None,
    *,
    dry_run: bool = False,
    on_progress: OnProgress = lambda _: None,
    threads: int | None = None,
) -> CopyReport:
    """Copy captures of `source` into its copy at `destination`; None: into the one that `make` makes.

    A capture that is damaged, newer or unreadable on either side is left, and reported. `dry_run`: only report, and change
    nothing. `threads`: that read chunks, if not as the stores want; 0 for none but the caller's.

    Raises SameRepository, CopyDiverged, NewerFormat and RepositoryNotReadable before anything is written to the destination;
    later what either store raises. What was copied until then is there, and the next copy goes on from it.
    """
    with ExitStack() as stack:
        at_source = None if dry_run else stack.enter_context(leased(source, PROGRAM))
        if destination is not None and at_source is not None:
            check_other(destination, at_source.id)
        # the copy first: whatever another run has copied by now the source has had before
        there = Chain() if destination is None else read_chain(destination)
        chain = read_chain(source)
        if destination is not None:
            refuse_foreign(source.address, destination.address, chain, there)
        wanted = wanted or Wanted()
        plan = plan_of(chain, there, wanted.chosen, wanted.named)
        report = _report(source, "" if destination is None else destination.address, plan, chain, there)
        if at_source is None:
            report.dry_run, report.copied = True, list(plan.wanted)
            return report
        made = make() if destination is None else destination
        report.created, report.destination = destination is None, made.address
        report.notes += slots_not_copied(source, made) if report.created else []
        at_copy = stack.enter_context(leased(made, PROGRAM))
        _Run(source, made, plan, report, on_progress, threads).run(at_source, at_copy, set(wanted.named))
        return report


class _Run:
    def __init__(
        self,
        source: Repository,
        copy: Repository,
        plan: Plan,
        report: CopyReport,
        on_progress: OnProgress,
        threads: int | None,
    ) -> None:
        self._source = source
        self._copy = copy
        self._plan = plan
        self._report = report
        self._on_progress = on_progress
        self._copier = CaptureCopier(source, copy, threads)

    def run(self, at_source: Lease, at_copy: Lease, named: Collection[str]) -> None:
        plan, report = self._plan, self._report
        tell_lacking(self._copy, plan.unknown)
        report.notes += copy_tombstones(self._source, self._copy)
        report.notes += copy_marks(self._source, self._copy, {*plan.wanted, *plan.there})
        for number, capture_id in enumerate(plan.wanted, 1):
            at_source.renew_if_old()
            at_copy.renew_if_old()
            self._alone(capture_id, partial(self._copy_one, capture_id, number, at_copy.id))
        aside = bool(plan.there and stems_aside(self._copy.objects))
        for capture_id in plan.there:
            missing_too = capture_id in named
            if aside or missing_too:
                at_source.renew_if_old()
                heal = partial(self._heal, capture_id, missing_too=missing_too)
                self._alone(capture_id, heal, in_copy=True)
        tidy_lacking(self._copy)
        chunks = self._copier.chunks
        report.chunks_copied, report.chunks_known = chunks.copied, chunks.known
        report.bytes_copied = chunks.bytes_copied

    def _alone(self, capture_id: str, act: Callable[[], None], *, in_copy: bool = False) -> None:
        """Do something to a capture. One that cannot be copied is reported, unless it was forgotten meanwhile."""
        try:
            act()
        except CaptureError as error:
            if self._source.is_sealed(capture_id):
                self._report.left.append(left_of(capture_id, error.error, error.address, in_copy=in_copy))
            else:
                self._report.gone.append(capture_id)

    def _copy_one(self, capture_id: str, number: int, session_id: str) -> None:
        found = self._copier.manifest(capture_id)
        if found is None:
            self._report.gone.append(capture_id)
            return
        manifest, data = found
        total = sum(disk.size_bytes for _, disk in manifest.disks())

        def tell(done: int) -> None:
            sent = self._copier.chunks.bytes_copied
            self._on_progress(Progress(capture_id, number, len(self._plan.wanted), min(done, total), total, sent))

        tell(0)
        self._copier.copy(manifest, data, session_id, tell)
        self._report.copied.append(capture_id)

    def _heal(self, capture_id: str, *, missing_too: bool) -> None:
        found = self._copier.manifest(capture_id)
        if found is not None:
            self._copier.heal(found[0], missing_too=missing_too)


def _report(source: Repository, destination: str, plan: Plan, chain: Chain, there: Chain) -> CopyReport:
    here = [left_of(one, chain.unreadable[one], source.address) for one in plan.unreadable]
    left = [
        left_there(one, there.unreadable[one], source.address, destination, sound=one in chain.there)
        for one in plan.unreadable_there
    ]
    return CopyReport(
        source=source.address,
        destination=destination,
        id=str(source.config.id),
        there=list(plan.there),
        left=here + left,
        forgotten_there=list(plan.forgotten_there),
        only_there=list(plan.only_there),
    )
