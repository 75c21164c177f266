"""Decide whether a repository can hold a disk of this size. Pure."""

from __future__ import annotations

from freezeframe.repository.header import SLOTS_MAX


def size_hindrance(size_bytes: int, chunk_bytes: int) -> str | None:
    """Return the reason why no index can be made for a disk of `size_bytes`, None if one can; any number of bytes is fine else.

    QEMU starts with an empty file, and a reader of cards without a medium is a device of 0 bytes.
    """
    if size_bytes < 1:
        return "it is empty, it has 0 bytes: an image that was never filled, or a drive without a medium"
    most_bytes = SLOTS_MAX * chunk_bytes
    if size_bytes > most_bytes:
        return f"it has {size_bytes} bytes, and a repository in chunks of {chunk_bytes} holds disks of {most_bytes} at most"
    return None
