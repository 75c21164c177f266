"""The repository: where captures live. The format is in docs/repository.md; these are its words.

A *chunk* is an aligned, fixed-size piece of a disk, known by the *digest* of its bytes and stored in an *envelope*. A *slot*
is a chunk's place in a disk; a *hole* is a slot that is all zeros and has no chunk. An *index* is one disk at one instant: a
digest for every slot, always complete. A *manifest* is the one document that makes a capture exist; it is written last. A
*store* keeps them all as objects with names; an object is *visible* when a reader finds it, *durable* when a power cut
cannot take its bytes away, and *settled* when its name is as durable as its bytes. *Protection* is what stands around an
object's name and bytes in an encrypted repository (`crypto`), and nothing in another. A *session* says that a writer is at
work; what is *condemned* is out of writers' sight, and goes when no session may rely on it any more (`garbage`).

What holds whatever dies:

1. What is visible is complete, and its bytes are durable.
2. An index refers only to settled chunks, a manifest only to settled indexes; so a sealed capture reads back.
3. A chunk is handed out only after its bytes were verified against its digest.
4. Garbage collection deletes nothing that a sealed capture refers to, or one that will be.
"""

from freezeframe.repository.buffer import ChunkBuffer
from freezeframe.repository.effort import Effort
from freezeframe.repository.index import Index
from freezeframe.repository.manifest import (
    DiskCapture,
    GuestCapture,
    Imported,
    Instant,
    Manifest,
    SkippedDisk,
)
from freezeframe.repository.outcome import ChunkOutcome, IndexReceipt
from freezeframe.repository.parent import Parent, ParentSearch, find_parents
from freezeframe.repository.reader import DiskReader, Extent
from freezeframe.repository.repository import Repository
from freezeframe.repository.session import Session, Sessions
from freezeframe.repository.suspects import Suspect, Suspects
from freezeframe.repository.verify import Tier, VerifyReport, verify
from freezeframe.repository.writer import DiskWriter

__all__ = [
    "ChunkBuffer",
    "ChunkOutcome",
    "DiskCapture",
    "DiskReader",
    "DiskWriter",
    "Effort",
    "Extent",
    "GuestCapture",
    "Imported",
    "Index",
    "IndexReceipt",
    "Instant",
    "Manifest",
    "Parent",
    "ParentSearch",
    "Repository",
    "Session",
    "Sessions",
    "SkippedDisk",
    "Suspect",
    "Suspects",
    "Tier",
    "VerifyReport",
    "find_parents",
    "verify",
]
