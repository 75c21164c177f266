"""The indexes that a fleet's transfers name: of disks that are one hole, in the repository before any capture."""

from __future__ import annotations

from collections.abc import Iterable

from freezeframe.repository import Repository


def store(repository: Repository, sizes: Iterable[int]) -> dict[int, str]:
    """Put an index for each size into the repository; return their digests by the sizes."""
    found = {}
    for size_bytes in sizes:
        with repository.disk_writer(size_bytes, repository.config.chunk_bytes) as writer:
            found[size_bytes] = writer.finish().digest
    return found
