"""The verification of some captures: every chunk of them, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezeframe.repository.layout import FAN_OUT
from freezeframe.repository.verify.report import OnProgress, Tier, VerifyReport
from freezeframe.repository.verify.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository


def verify(
    repository: Repository,
    captures: Iterable[Manifest],
    tier: Tier = Tier.REHASHED,
    on_progress: OnProgress | None = None,
    *,
    set_aside: bool = False,
    set_aside_at_most: int | None = None,
) -> VerifyReport:
    """Look at every chunk of these captures once. For memory and temporary files see `marks.py`.

    `on_progress` is called in this thread, after every chunk. Damage is reported, not raised; with `set_aside` damaged objects
    are moved out of writers' sight, without it nothing is changed. Raises RepositoryNotReadable if the store is away.
    """
    wanted = list(captures)
    run = Run(repository, tier, on_progress, aside=set_aside, at_most=set_aside_at_most)
    look_through(run, wanted)
    return run.report(wanted)


def look_through(run: Run, captures: Iterable[Manifest]) -> None:
    """Look at every chunk of these captures once, folder by folder."""
    with run.chunks(captures) as chunks:
        run.chunks_total = chunks.count()
        # as one: in object storage many folders' few chunks are looked at together
        run.look_at(digest for folder in range(len(FAN_OUT)) for digest in chunks.digests(folder))
