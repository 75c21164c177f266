"""The small documents of a copy: what it lacks, the tombstones of its source, and the marks of suspect disks."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from freezeframe.repository.errors import AlreadyExists, ObjectNotFound
from freezeframe.repository.layout import LINEAGE, VERIFIED, is_suspect, is_tombstone
from freezeframe.repository.lineage import Tombstone, tombstone_of
from freezeframe.repository.notice import Notice, Unread, Why, look_at_notice
from freezeframe.repository.read_ahead import read_ahead
from freezeframe.repository.suspects import Suspect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from freezeframe.repository.lineage import Link
    from freezeframe.repository.repository import Repository

NoticeT = TypeVar("NoticeT", bound=Notice)


def tell_lacking(copy: Repository, links: Sequence[Link]) -> None:
    """Write down, settled, what the copy lacks, in one document: each manifest and each tombstone may name any of these.

    To be done before the first tombstone and the first manifest.
    """
    if links:
        copy.lineages.put(tombstone_of(links, not_copied=True))


def tidy_lacking(copy: Repository) -> None:
    """Reduce what was told of captures that the copy lacks to those that it still lacks.

    Else one of these that is taken away from the copy later would not be missed.
    """
    there = set(copy.capture_ids())
    tombstones = copy.lineages.tombstones().read
    forgotten = {
        (one.capture_id, one.digest) for told in tombstones.values() if not told.not_copied for one in told.captures
    }
    for name, told in tombstones.items():
        if told.not_copied:
            lacking = [
                one
                for one in told.captures
                if one.capture_id not in there and (one.capture_id, one.digest) not in forgotten
            ]
            if len(lacking) < len(told.captures):
                tell_lacking(copy, lacking)
                copy.store.delete(name)
    copy.store.settle([LINEAGE])


def copy_tombstones(source: Repository, copy: Repository) -> list[str]:
    """Copy the tombstones that the copy does not have; return the reasons why some could not be copied."""
    wanted = _missing(source, copy, LINEAGE, is_tombstone)
    return _copy_all(source, copy, wanted, Tombstone, lambda one: not one.not_copied)


def copy_marks(source: Repository, copy: Repository, captures: Collection[str]) -> list[str]:
    """Copy the marks of these captures that the copy does not have: no incremental may be built upon their disks there either.

    Returns the reasons why some could not be copied.
    """
    wanted = _missing(source, copy, VERIFIED, is_suspect)
    return _copy_all(source, copy, wanted, Suspect, lambda one: one.capture_id in captures)


def _missing(source: Repository, copy: Repository, folder: str, is_one: Callable[[str], bool]) -> list[str]:
    there = set(copy.store.names(folder))
    return sorted(name for name in source.store.names(folder) if is_one(name) and name not in there)


def _copy_all(
    source: Repository,
    copy: Repository,
    names: Iterable[str],
    kind: type[NoticeT],
    is_wanted: Callable[[NoticeT], bool],
) -> list[str]:
    def copy_one(name: str) -> str | None:
        found = look_at_notice(source.objects, name, kind)
        if isinstance(found, Unread) and found.why is not Why.NEWER:
            return found.reason
        with suppress(ObjectNotFound, AlreadyExists):  # it was taken away, or another copies it too
            if isinstance(found, Unread):
                copy.store.put(name, BytesIO(source.store.get(name)))  # as it is: this version does not understand it
            elif found is not None and is_wanted(found):
                copy.store.put_if_absent(name, found.stored(copy.objects, name))
        return None

    return [reason for reason in read_ahead(names, copy_one) if reason is not None]
