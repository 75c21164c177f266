"""Copying: captures of a repository that is in use go into a *copy* of it, which has the same id, keys and names.

    source                                  copy
    session                                 list manifests, tombstones
    list manifests, tombstones              is it a copy of this one? else refused, unchanged
                                            session
                                            what it lacks (`not_copied`), tombstones, marks of suspects
    oldest capture first:
      index ──▶ chunks, verified ─────────▶ those that are not there ─▶ settled ─▶ indexes ─▶ manifest: the capture is there
                                            …
    session ended                           what it still lacks; session ended

An object has the same name on both sides. A chunk has the same stored bytes, an index and a manifest the same plain form. So a
copy is restored from, verified, checked and pinned like any other repository.

1. The sessions keep garbage collection on each side from what is needed, as for an incremental capture and its parent.
2. Each manifest is put when all that it refers to is settled. A copy that was interrupted has fewer captures, and nothing else.
3. What the copy lacks has a document in its `lineage/`, so that no capture that was not copied passes for one that was lost.
4. Nothing is written to the source but the session, and nothing in the copy is forgotten or replaced.
"""

from freezeframe.repository.copying.errors import CopyDiverged, NotACopy, SameRepository
from freezeframe.repository.copying.report import CopyReport, Left, Progress, Why
from freezeframe.repository.copying.run import PROGRAM, Wanted, copy
from freezeframe.repository.copying.twin import create_copy, open_copy

__all__ = [
    "PROGRAM",
    "CopyDiverged",
    "CopyReport",
    "Left",
    "NotACopy",
    "Progress",
    "SameRepository",
    "Wanted",
    "Why",
    "copy",
    "create_copy",
    "open_copy",
]
