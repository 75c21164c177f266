"""Which chunks captures refer to, folder by folder, in bounded memory: indexes are read again for each group of folders.

256 folders ─▶ the first alone, which tells how large they are ─▶ as many at once as have half a million chunks ─▶ …
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from freezeframe.repository.layout import CHUNKS, FAN_OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from freezeframe.repository.objects import Objects

#: About 50 MB of digests.
CHUNKS_AT_ONCE: Final = 500_000


def chunks_by_folder(
    objects: Objects, folders: Sequence[str], used_chunks: Callable[[], Iterable[bytes]]
) -> Iterator[tuple[str, set[bytes]]]:
    """Each folder with the chunks in it that are referred to; `used_chunks` gives all, as often as they are, for each group."""
    rest, at_once = list(folders), 1
    while rest:
        group, rest = rest[:at_once], rest[at_once:]
        found = _gather(objects, group, used_chunks())
        # digests are spread evenly, so the first folder tells how large the others are
        at_once = max(1, CHUNKS_AT_ONCE // max(1, len(found[group[0]])))
        for folder in group:
            yield folder, found.pop(folder)


def _gather(objects: Objects, folders: Sequence[str], used_chunks: Iterable[bytes]) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {folder: set() for folder in folders}
    by_number = [found.get(folder) for folder in FAN_OUT]
    key = objects.protection.key
    for chunk in used_chunks:
        wanted = by_number[key(CHUNKS, chunk)[0]]
        if wanted is not None:
            wanted.add(chunk)
    return found
