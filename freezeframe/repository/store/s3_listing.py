"""Listings of a bucket, page by page.

    signed by the library ─▶ sent and read here ─▶ page ─ page ─ 503 ─ pause ─ page ─ …      each page has its own patience
    a long folder of digests                    ─▶ page ─ page ─ page ─┬ ab0… ─ page ─ …     16 parts at once
                                                                       ├ ab1… ─ page ─ …
                                                                       └ …

The library's own listings are not used. It takes any XML for a listing, so that a proxy's own page, with status 200, is a
listing without a name. One key with an empty segment (`manifests//x`), which anybody may leave in a bucket, ends them. And a
server's own marker of a folder (`chunks/ab/`) is listed as an object. It signs the requests, so credentials of all kinds work.

An answer that is not wholly a listing of what was asked for is one that cannot be understood, and never a shorter listing.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from freezeframe.repository.errors import RepositoryError, RepositoryNotReadable
from freezeframe.repository.layout import checked_name
from freezeframe.repository.store.backend import Entry
from freezeframe.repository.store.s3_fault import Answer, error_of, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from freezeframe.repository.store.patience import Patience
    from freezeframe.repository.store.s3_http import Sender

#: A page has at most 1,000 keys of at most 1,024 bytes, which url encoding makes three times as long.
_PAGE_BYTES_MAX: Final = 16 << 20

#: A folder of objects that are named by digests, all of which begin with its own two digits; other names are not ours. At 30 ms
#: a page a folder of 820,000 chunks (100 TiB at 512 KiB) takes half a minute, and two seconds in parts.
_FANNED: Final = re.compile(r"(?:.*/)?(?:chunks|indexes)/([0-9a-f]{2})")

#: Pages that are asked for one after the other before that: most folders have no more, and who takes a short look needs few.
_ALONE: Final = 3

#: What is no name of ours in a folder: its own marker, `.` and `..`, and names with control characters.
_NO_NAME: Final = re.compile(r"\.{0,2}|.*[\x00-\x1f\x7f].*", re.DOTALL)


class Page(NamedTuple):
    """A page of a listing. `token` asks for the next one; None after the last."""

    entries: list[Entry]
    folders: list[str]  # directly below, as the server says them: with the slash
    token: str | None


class Listings:
    """Listings of keys under a prefix. `signed` returns the URL of a listing with such a query."""

    def __init__(self, signed: Callable[[Mapping[str, str]], str], sender: Sender, prefix: str) -> None:
        self._signed = signed
        self._sender = sender
        self._prefix = f"{prefix}/" if prefix else ""

    def entries(self, folder: str, place: str, patience: Patience) -> Iterator[Entry]:
        """Yield the objects directly in a folder, in no order. Raises RepositoryNotReadable, in the middle too."""
        pages = self.pages(folder, place, patience)
        seen: set[str] = set()
        for page in islice(pages, _ALONE):
            yield from page.entries
            if page.token is None:
                return
            seen.update(entry.name for entry in page.entries)
        if (fanned := _FANNED.fullmatch(folder)) is None:
            yield from (entry for page in pages for entry in page.entries)
            return
        stems = [f"{folder}/{fanned[1]}{digit}" for digit in "0123456789abcdef"]
        for part in self._parts(stems, place, patience):
            yield from (entry for entry in part if entry.name not in seen)

    def _parts(self, stems: Sequence[str], place: str, patience: Patience) -> Iterator[list[Entry]]:
        """Yield the objects whose names begin with each of these, listed side by side."""
        enough = threading.Event()

        def listed(stem: str) -> list[Entry]:
            found: list[Entry] = []
            for page in self._pages(f"{self._prefix}{stem}", place, patience):
                found += page.entries
                if enough.is_set():  # nobody takes it any more
                    break
            return found

        pool = ThreadPoolExecutor(len(stems), thread_name_prefix="list")
        try:
            yield from pool.map(listed, stems)
        finally:
            enough.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def top(self, place: str, patience: Patience) -> list[str]:
        """Return the names directly under the prefix: of objects and of folders."""
        pages = list(self.pages("", place, patience))
        folders = [name.removesuffix("/") or name for page in pages for name in page.folders]
        return sorted([*folders, *(entry.name for page in pages for entry in page.entries)])

    def pages(self, folder: str, place: str, patience: Patience) -> Iterator[Page]:
        """Yield what is directly in a folder. Raises RepositoryNotReadable, in the middle too."""
        return self._pages(f"{self._prefix}{checked_name(folder)}/" if folder else self._prefix, place, patience)

    def _pages(self, under: str, place: str, patience: Patience) -> Iterator[Page]:
        query = {"list-type": "2", "encoding-type": "url", "prefix": under}
        tokens: set[str] = set()
        while True:
            page = patience.tried(lambda query=query: self._page(query, place))  # type: ignore[misc]
            yield page
            if page.token is None:
                return
            if page.token in tokens:  # else it would never end
                raise _unclear(Answer(), place)
            tokens.add(page.token)
            query = {**query, "continuation-token": page.token}

    def _page(self, query: Mapping[str, str], place: str) -> Page:
        with reading(place):
            url = self._signed(query)
        said = self._sender.get(url, place, _PAGE_BYTES_MAX)
        try:
            return page_of(said, query["prefix"], self._prefix)
        except ValueError:  # not chained: it may quote the answer
            answer = Answer.of(said.decode(errors="replace"))
        raise _unclear(answer, place)


def _unclear(answer: Answer, place: str) -> RepositoryError:
    return error_of(Answer(code=answer.code, garbled=True), f"Reading {place}", place, RepositoryNotReadable)


def page_of(said: bytes, under: str, prefix: str) -> Page:
    """Return the page that a server's answer to a listing of keys under `under` is. Raises ValueError if it is none.

    Names are without `prefix`. [Amazon S3 API reference, ListObjectsV2]
    """
    try:
        root = ET.fromstring(said)  # noqa: S314  expat refuses entities that grow
    except (ET.ParseError, LookupError) as error:  # LookupError: an encoding that is not known
        raise ValueError(str(error)) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root.tag != "ListBucketResult":
        raise ValueError(f"{root.tag} is no listing")
    plain = unquote_plus if root.findtext("EncodingType") == "url" else str
    if plain(root.findtext("Prefix") or "") != under:  # as of a cache that does not look at the query
        raise ValueError("a listing of another folder")
    keys = [(_below(under, plain(_text(one, "Key"))), one) for one in root.iterfind("Contents")]
    folders = [_below(under, plain(_text(one, "Prefix"))) for one in root.iterfind("CommonPrefixes")]
    if any("/" in name for name, _ in keys):
        raise ValueError("a key in a folder below, which was not asked for")
    entries = [_entry(under.removeprefix(prefix) + name, one) for name, one in keys if not _NO_NAME.fullmatch(name)]
    return Page(entries, folders, _token(root))


def _token(root: ET.Element) -> str | None:
    """Return what asks for the next page; None if there is none. An answer that does not say so may have been cut."""
    more = _text(root, "IsTruncated").strip().lower()
    if more not in {"true", "false"}:
        raise ValueError("it does not say whether there is more")
    return _text(root, "NextContinuationToken") if more == "true" else None


def _entry(name: str, element: ET.Element) -> Entry:
    modified = datetime.fromisoformat(_text(element, "LastModified"))
    if modified.tzinfo is None:
        raise ValueError("a time without a zone")
    size = int(_text(element, "Size"))
    if size < 0:
        raise ValueError("a negative size")
    return Entry(name, size, modified)


def _below(under: str, key: str) -> str:
    if not key.startswith(under):
        raise ValueError("a key that was not asked for")
    return key.removeprefix(under)


def _text(element: ET.Element, name: str) -> str:
    text = element.findtext(name)
    if not text:
        raise ValueError(f"{element.tag} without {name}")
    return text
