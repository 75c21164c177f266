"""Look for all objects of a manifest under their own names. If all are there none is lost later, even without a session.

    run a, begun before the manifest was visible     may still condemn what is under its own name
    run b, the first that may delete that            begins after run a has finished: reads the manifest, and moves it back

What is only condemned does not count: a run that has not read the manifest may be deleting it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from freezeframe.repository.errors import IndexDamaged, ObjectIsNoFile
from freezeframe.repository.index import load_index
from freezeframe.repository.layout import CHUNKS, FAN_OUT, digest_of
from freezeframe.repository.referenced import chunks_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.objects import Objects


def is_whole(objects: Objects, manifest: Manifest) -> bool:
    """Return True if every index and chunk of a manifest is there under its own name. Ask once the manifest is visible.

    Lists each folder that has any of its chunks, which takes minutes for 100 million names. Raises RepositoryNotReadable,
    NewerFormat and TemporaryStorageFailed.
    """
    indexes = {objects.protection.index_name(digest_of(disk.index)) for _, disk in manifest.disks()}
    if not all(objects.store.exists(name) for name in sorted(indexes)):
        return False
    try:
        with chunks_of(objects, [manifest], lambda digest: load_index(objects, digest_of(digest))) as chunks:
            return all(_are_there(objects, folder, chunks.digests(number)) for number, folder in enumerate(FAN_OUT))
    except IndexDamaged:
        return False


def _are_there(objects: Objects, folder: str, digests: Iterable[bytes]) -> bool:
    wanted = {objects.protection.locate(digest) for digest in digests}
    if wanted:
        with suppress(ObjectIsNoFile):  # which is raised after all others: it is one that is wanted, or not
            wanted.difference_update(objects.store.names(f"{CHUNKS}/{folder}"))
    return not wanted
