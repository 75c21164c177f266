"""The verification of some captures: every chunk of them, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezeframe.repository.verify.report import OnProgress, Tier, VerifyReport
from freezeframe.repository.verify.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository


def verify(
    repository: Repository,
    captures: Iterable[Manifest],
    tier: Tier = Tier.REHASHED,
    on_progress: OnProgress | None = None,
    *,
    set_aside: bool = False,
) -> VerifyReport:
    """Look at every chunk of these captures once. Memory: about 100 bytes for each distinct chunk.

    `on_progress` is called in this thread, after every chunk. Damage is reported, not raised; with `set_aside` damaged objects
    are moved out of writers' sight, without it nothing is changed. Raises RepositoryNotReadable if the store is away.
    """
    wanted = list(captures)
    run = Run(repository, tier, on_progress, aside=set_aside)
    look_through(run, wanted)
    return run.report(wanted)


def look_through(run: Run, captures: Iterable[Manifest]) -> None:
    """Look at every chunk of these captures once."""
    run.look_at(_once(run.used_chunks(disk.index for manifest in captures for _, disk in manifest.disks())))


def _once(chunks: Iterator[bytes]) -> Iterator[bytes]:
    seen: set[bytes] = set()
    for chunk in chunks:
        if chunk not in seen:
            seen.add(chunk)
            yield chunk
