"""Outcomes: what a disk writer tells of a chunk, and of a disk."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ChunkOutcome(Enum):
    """The fate of a chunk that was given to a writer."""

    HOLE = "hole"  # all zeros: nothing is stored for it
    KNOWN = "known"  # in the repository already, or on its way
    NEW = "new"
    QUEUED = "queued"  # not known yet: the store is being asked. A receipt counts it as one of the others


@dataclass(frozen=True)
class IndexReceipt:
    """A disk's index, settled, and what it took."""

    digest: str
    size_bytes: int
    chunk_bytes: int
    chunks_new: int
    chunks_known: int
    bytes_read: int  # given to write_chunk
    bytes_stored: int  # new chunks and the index, as they are stored
