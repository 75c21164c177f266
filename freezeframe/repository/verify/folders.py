"""The verification of a share of the repository: of the 256 folders of chunks those that have waited longest.

    records ─▶ the oldest n of 256 ─▶ read all indexes, once each: ─▶ folder by folder: look at them ─▶ record
                                      which chunks of these folders
                                      does any capture refer to?

Memory and temporary files as in `marks.py`.
"""

from __future__ import annotations

import math
import random
import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING

from freezeframe.repository.errors import ManifestUnreadable, RepositoryFull, RepositoryNotWritable
from freezeframe.repository.layout import FAN_OUT
from freezeframe.repository.verify.record import (
    IndexesRecord,
    Records,
    Verified,
    read_folder,
    read_records,
    write_folder,
    write_indexes,
)
from freezeframe.repository.verify.report import OnProgress, Tier, VerifyReport
from freezeframe.repository.verify.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository

_SHARE = re.compile(r"(\d{1,6})\s*/\s*(\d{1,6})|(\d{1,3}(?:\.\d{1,3})?)\s*%")


def parse_share(text: str) -> Fraction:
    """`1/30`, `3%`. Raises ValueError for what is none, or not more than 0 and at most 1."""
    match = _SHARE.fullmatch(text.strip())
    if match is None or match[2] == "0":
        raise ValueError(f"{text!r} is no share: give one as in 1/30 or 3%")
    share = Fraction(int(match[1]), int(match[2])) if match[1] else Fraction(match[3]) / 100
    if not 0 < share <= 1:
        raise ValueError(f"a share is more than nothing and at most everything, and {text!r} is not")
    return share


def oldest_folders(records: Records, tier: Tier, share: Fraction) -> list[str]:
    """Return a share of the folders, at least one: those never verified at that tier first, then by age. Pure.

    Those whose records a newer version keeps come last.
    """
    never = datetime.min.replace(tzinfo=UTC)
    by_age = sorted(FAN_OUT, key=lambda folder: (folder in records.newer, records.last(folder, tier) or never, folder))
    return by_age[: folders_in(share)]


def folders_in(share: Fraction) -> int:
    return math.ceil(share * len(FAN_OUT))


def verify_share(
    repository: Repository,
    share: Fraction,
    tier: Tier = Tier.REHASHED,
    on_progress: OnProgress | None = None,
    *,
    set_aside: bool = False,
    set_aside_at_most: int | None = None,
    on_damaged: Callable[[ManifestUnreadable], None] = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> VerifyReport:
    """Look at every chunk that any capture refers to in the share of folders that has waited longest, and record it.

    What is done is recorded folder by folder. `on_progress` is called in this thread after every chunk and every folder;
    `on_damaged` is given manifests that cannot be read. Raises RepositoryNotReadable if the store is away.
    """
    run = Run(repository, tier, on_progress, aside=set_aside, at_most=set_aside_at_most)
    records = read_records(repository.objects)
    for reason in records.unreadable:
        run.found.note(f"A record of verification cannot be read, and counts as never. {reason}")
    chosen = oldest_folders(records, tier, share)
    # not in the order of their age: two runs that began together would walk side by side
    random.shuffle(chosen)
    return _Share(run, repository.manifests(on_damaged=on_damaged), chosen, clock).verify()


class _Share:
    def __init__(
        self, run: Run, captures: Sequence[Manifest], chosen: Sequence[str], clock: Callable[[], datetime]
    ) -> None:
        self._run = run
        self._objects = run.objects
        self._captures = captures
        self._chosen = chosen
        self._clock = clock
        self._began = clock()

    def verify(self) -> VerifyReport:
        with self._run.chunks(self._captures, self._chosen) as chunks:
            for folder in self._chosen:
                self._verify_folder(folder, chunks.digests(int(folder, 16)))
        self._record_indexes()
        return self._run.report(self._captures)

    def _verify_folder(self, folder: str, chunks: set[bytes]) -> None:
        found = self._run.found
        checked, read, damaged = found.chunks_checked, found.bytes_read, len(found.chunks)
        if not self._done_by_another(folder) and self._run.look_at(chunks):
            self._write(
                lambda: write_folder(
                    self._objects,
                    folder,
                    self._run.tier,
                    Verified(
                        at=self._clock(),
                        chunks=found.chunks_checked - checked,
                        bytes=found.bytes_read - read,
                        damaged=len(found.chunks) - damaged,
                    ),
                )
            )
        self._run.folders.append(folder)
        self._run.tell()

    def _done_by_another(self, folder: str) -> bool:
        """Return True if another run has verified the folder since this one began. Hosts' clocks agree to within seconds."""
        record = read_folder(self._objects, folder)
        last = None if record is None else record.last(self._run.tier)
        return last is not None and last > self._began

    def _record_indexes(self) -> None:
        newest = max((one.capture_id for one in self._captures), default=None)
        record = IndexesRecord(
            at=self._clock(),
            captures=len(self._captures),
            indexes=len({disk.index for manifest in self._captures for _, disk in manifest.disks()}),
            damaged=len(self._run.found.indexes),
            newest=newest,
        )
        self._write(lambda: write_indexes(self._objects, record))

    def _write(self, write: Callable[[], None]) -> None:
        """Who may only read can verify all the same."""
        try:
            write()
        except (RepositoryNotWritable, RepositoryFull) as error:
            self._run.found.note(f"What was verified could not be recorded: {error.message}")
