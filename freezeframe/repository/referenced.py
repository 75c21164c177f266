"""The chunks that captures refer to: each index is read once, and of a disk's captures only slots that differ are looked at.

    disk a   index 1 │ a │ b │ c │ d │     a b c d ─┐
             index 2 │ a │ B │ c │ d │     B       ─┼─▶ marks.py: folder by folder, each chunk once
    disk b   index 1 │ e │ b │   │           e b   ─┘

Garbage collection, verification and the check of a repository all read indexes here.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final

from freezeframe.repository.layout import CHUNKS, DIGEST_BYTES, FAN_OUT, ZERO_DIGEST
from freezeframe.repository.marks import Marks
from freezeframe.repository.table import digests_in, slots_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from freezeframe.repository.index import Index
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.objects import Objects
    from freezeframe.repository.table import SlotTable

#: 32 slots: a scattered 1 % of dirty ones leaves three quarters of the blocks as they were.
_BLOCK_BYTES: Final = 32 * DIGEST_BYTES
#: A disk may have grown: its last slots had no digest in the capture before.
_NOTHING: Final = (ZERO_DIGEST,) * (_BLOCK_BYTES // DIGEST_BYTES)


def chunks_of(
    objects: Objects,
    captures: Iterable[Manifest],
    open_index: Callable[[str], Index | None],
    folders: Sequence[str] = FAN_OUT,
) -> Marks:
    """Return the chunks in these folders that captures refer to; to be closed. For `open_index` see `mark_chunks`.

    Raises what `open_index` raises, and TemporaryStorageFailed.
    """
    marks = Marks(objects.protection.keying(CHUNKS), {int(folder, 16) for folder in folders})
    try:
        mark_chunks(marks, lines_of(captures), open_index)
    except BaseException:
        marks.close()
        raise
    return marks


def lines_of(captures: Iterable[Manifest]) -> list[list[str]]:
    """Return the indexes of each disk, the oldest capture's first, every index once. Pure."""
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    seen: set[str] = set()
    for manifest in sorted(captures, key=lambda one: one.capture_id):
        for guest, disk in manifest.disks():
            if disk.index not in seen:
                lines[guest.guest_uuid, disk.target].append(disk.index)
                seen.add(disk.index)
    return list(lines.values())


def mark_chunks(
    marks: Marks,
    lines: Iterable[Sequence[str]],
    open_index: Callable[[str], Index | None],
    on_index: Callable[[], None] = lambda: None,
) -> None:
    """Mark the chunks of all indexes. `open_index` is asked for each once; one that it gives is closed here.

    It returns None for an index that cannot be read, whose chunks are then not marked. `on_index` is called after each.
    """
    for line in lines:
        before: Index | None = None
        try:
            for digest in line:
                index = open_index(digest)
                if index is not None:
                    before = _mark(marks, index, before)
                on_index()
        finally:
            if before is not None:
                before.close()


def _mark(marks: Marks, index: Index, before: Index | None) -> Index:
    """Mark what `before` has not, close that, and return `index`."""
    try:
        for digests in new_digests(index.table, None if before is None else before.table):
            marks.add(digests)
    except BaseException:
        index.close()
        raise
    if before is not None:
        before.close()
    return index


def new_digests(table: SlotTable, before: SlotTable | None) -> Iterator[Sequence[bytes]]:
    """Yield the digests of slots that are others, or none, in the table before it. Holes are left out."""
    for piece, known in zip_longest(table.pieces(), () if before is None else before.pieces()):
        if piece is None:
            return
        if known is None:
            yield digests_in(piece)
        elif piece != known:
            yield [digest for digest in _changed(piece, known) if digest != ZERO_DIGEST]


def _changed(piece: bytes, known: bytes) -> Iterator[bytes]:
    for at in range(0, len(piece), _BLOCK_BYTES):
        block, was = piece[at : at + _BLOCK_BYTES], known[at : at + _BLOCK_BYTES]
        if block != was:
            pairs = zip(slots_in(block), chain(slots_in(was), _NOTHING[len(was) // DIGEST_BYTES :]), strict=False)
            yield from (new for new, old in pairs if new != old)
