"""Listings of a bucket, page by page: one page that fails is asked for again, and not the whole listing.

    page ─ page ─ 503 ─ pause ─ page ─ …       each page has its own patience; a page is asked for after the last name seen

One key with an empty segment, `.` or `..` ends the library's listing; then `s3_unparsed.py` lists the rest.

A server lists names in order of their bytes. If one does not, a page that fails fails the listing: what was listed so far could
not be told from what was not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import InvalidPathError

from freezeframe.repository.errors import RepositoryError
from freezeframe.repository.layout import checked_name, folder_of, has_folders
from freezeframe.repository.store.backend import Entry
from freezeframe.repository.store.s3_fault import reading
from freezeframe.repository.store.s3_unparsed import foreign_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obstore import ListStream, ObjectMeta
    from obstore.store import S3Store as Bucket

    from freezeframe.repository.store.patience import Patience
    from freezeframe.repository.store.s3_unparsed import Unparsed

#: Names taken from the library at once. A server's page has 1,000; what is gathered when one fails is asked for again.
_NAMES_AT_ONCE: Final = 500


def entries(bucket: Bucket, unparsed: Unparsed, folder: str, place: str, patience: Patience) -> Iterator[Entry]:
    """Yield the objects directly in a folder. Raises RepositoryNotReadable, in the middle too."""
    if folder:
        checked_name(folder)
    pages = _Pages(bucket, folder, place, patience)
    try:
        for page in [_top_objects(bucket, folder, place, patience)] if has_folders(folder) else pages:
            for one in page:
                # a server's own marker of a folder, `chunks/ab/`, is listed as `chunks/ab`
                if folder_of(one["path"]) == folder:
                    yield Entry(one["path"], one["size"], one["last_modified"])
    except InvalidPathError as error:
        if not pages.in_order:  # what follows the last name is not what is missing
            raise foreign_key(place, error) from None
        for rest in unparsed.pages(folder, pages.last, place, patience, error):
            yield from rest.entries


def top(bucket: Bucket, unparsed: Unparsed, place: str, patience: Patience) -> list[str]:
    """Return the names directly under the prefix: of objects and of folders."""

    def attempt() -> list[str]:
        with reading(place):
            listing = obstore.list_with_delimiter(bucket)
        return [*listing["common_prefixes"], *(entry["path"] for entry in listing["objects"])]

    try:
        return sorted(patience.tried(attempt))
    except InvalidPathError as error:
        pages = list(unparsed.pages("", "", place, patience, error))
        folders = [name.removesuffix("/") or name for page in pages for name in page.folders]
        return sorted([*folders, *(entry.name for page in pages for entry in page.entries)])


def _top_objects(bucket: Bucket, folder: str, place: str, patience: Patience) -> Sequence[ObjectMeta]:
    """List without going into the folders below, which may have millions of objects; here there are few."""

    def attempt() -> Sequence[ObjectMeta]:
        with reading(place):
            return obstore.list_with_delimiter(bucket, folder or None)["objects"]

    return patience.tried(attempt)


class _Pages:
    """The pages of a listing. Each asks for what follows the last name of the one before.

    `last` is the last name of what was listed so far, and `in_order` is False if that was in no order.
    """

    def __init__(self, bucket: Bucket, folder: str, place: str, patience: Patience) -> None:
        self.last = ""
        self.in_order = True
        self._bucket = bucket
        self._folder = folder
        self._place = place
        self._patience = patience
        self._stream: ListStream[Sequence[ObjectMeta]] | None = None

    def __iter__(self) -> Iterator[Sequence[ObjectMeta]]:
        return self

    def __next__(self) -> Sequence[ObjectMeta]:
        page = self._patience.tried(self._next)
        if page is None:
            raise StopIteration
        names = [self.last, *(one["path"] for one in page)]
        self.in_order = self.in_order and names == sorted(names)
        self.last = names[-1]
        return page

    def _next(self) -> Sequence[ObjectMeta] | None:
        try:
            with reading(self._place):
                if self._stream is None:
                    self._stream = obstore.list(
                        self._bucket, self._folder, offset=self.last or None, chunk_size=_NAMES_AT_ONCE
                    )
                return next(iter(self._stream), None)
        except RepositoryError as error:
            self._stream = None
            error.transient = error.transient and self.in_order
            raise
