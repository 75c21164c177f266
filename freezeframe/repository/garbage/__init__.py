"""Garbage collection: what no manifest refers to is condemned, and deleted by a later run. docs/repository.md has the argument.

 own name ──nobody refers to it, it is old──▶ condemned/<run>/… ──the run is ripe──▶ deleted
    ▲                                            │          ▲
    └────────── a manifest refers to it ─────────┘          └── from a run that never finished, into the own

A *run* is one collection; its *record* says when it began and when it had *finished* moving. It is *ripe* when grace is over
since, and every live session began after that: nobody who is at work can have seen under its own name what it has
condemned. *Marks* are the names of all that manifests refer to. What only
forgotten manifests refer to *lingers*: an incremental may have been begun upon them.

What holds whatever dies:

1. Nothing that a live session may have seen is deleted, and nothing that a visible manifest refers to.
2. A chunk or an index is at every moment under its own name or in a run that has a record, until it is deleted.
3. After any error while references are read, nothing was changed.
"""

from freezeframe.repository.garbage.collection import GRACE, collect
from freezeframe.repository.garbage.report import CollectReport, Held, Progress, Tally

__all__ = ["GRACE", "CollectReport", "Held", "Progress", "Tally", "collect"]
