"""Listings that the library does not parse: for a folder that has a key which it refuses.

    a/manifests//x   a/manifests/..   a/manifests/01//   a/manifests/a<tab>b    each ends the library's listing of `a/manifests`

No name of ours looks like that, but anybody who may write to the bucket can leave one there. The library signs the request, so
credentials of all kinds work; the request is sent, and the answer read, here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.error import HTTPError
from urllib.parse import unquote_plus
from urllib.request import urlopen
from xml.etree import ElementTree as ET

from freezeframe.printable import one_line
from freezeframe.repository.errors import RepositoryError, RepositoryNotReadable
from freezeframe.repository.store.backend import Entry
from freezeframe.repository.store.s3_fault import Answer, error_of, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from obstore.exceptions import InvalidPathError

    from freezeframe.repository.store.patience import Patience

#: A page has at most 1,000 keys of at most 1,024 bytes, which url encoding makes three times as long.
_PAGE_BYTES_MAX: Final = 16 << 20
_REFUSAL_BYTES_MAX: Final = 64 << 10

#: obstore 0.12 tells the key only in its text.
_KEY: Final = re.compile(r'Path "(.*?)"(?: contained|: Encountered)', re.DOTALL)

#: What the library refuses in a name beside empty segments, "." and "..".
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Page(NamedTuple):
    """A page of a listing. `token` asks for the next one; None after the last."""

    entries: list[Entry]
    folders: list[str]  # directly below, as the server says them: with the slash
    token: str | None


class Unparsed:
    """Listings of keys under `prefix`. `signed` returns the URL of a listing with such a query, for a minute."""

    def __init__(self, signed: Callable[[Mapping[str, str]], str], prefix: str, timeout_s: float) -> None:
        self._signed = signed
        self._prefix = f"{prefix}/" if prefix else ""
        self._timeout_s = timeout_s

    def pages(
        self, folder: str, after: str, place: str, patience: Patience, refused: InvalidPathError
    ) -> Iterator[Page]:
        """Yield what is directly in a folder after the object `after`, if any. `refused` is the library's error.

        Each page has its own patience. Raises RepositoryNotReadable: where no time mends it, with the key's name.
        """
        under = f"{self._prefix}{folder}/" if folder else self._prefix
        query = {"list-type": "2", "encoding-type": "url", "prefix": under}
        if after:
            query["start-after"] = f"{self._prefix}{after}"
        while True:
            page = patience.tried(lambda query=query: self._page(query, place, refused))  # type: ignore[misc]
            yield page
            if page.token is None:
                return
            query = {**query, "continuation-token": page.token}

    def _page(self, query: Mapping[str, str], place: str, refused: InvalidPathError) -> Page:
        try:
            return _page_of(self._asked(query, place), query["prefix"], self._prefix, place)
        except RepositoryError as error:
            if error.transient:
                raise
            raise foreign_key(place, refused, f" Without the library: {error}") from None

    def _asked(self, query: Mapping[str, str], place: str) -> bytes:
        with reading(place):
            url = self._signed(query)
        try:
            with urlopen(url, timeout=self._timeout_s) as answer:  # noqa: S310  the endpoint is http:// or https://
                said: bytes = answer.read(_PAGE_BYTES_MAX)
                return said
        except HTTPError as refusal:
            body = b""
            with suppress(OSError, HTTPException), refusal:
                body = refusal.read(_REFUSAL_BYTES_MAX)
            answer_ = Answer.of(f"status code: {refusal.code} {body.decode(errors='replace')}")
        except (OSError, HTTPException):
            answer_ = Answer(no_http=True)
        raise error_of(answer_, f"Reading {place}", place, RepositoryNotReadable)


def _page_of(said: bytes, under: str, prefix: str, place: str) -> Page:
    """Return the page that a server's answer is. Raises RepositoryNotReadable, never a shorter page. Pure."""
    try:
        root = ET.fromstring(said)  # noqa: S314  expat refuses entities that grow
    except ET.ParseError:  # it was cut short
        raise error_of(Answer(no_http=True), f"Reading {place}", place, RepositoryNotReadable) from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    try:
        if root.tag != "ListBucketResult":
            raise ValueError(root.tag)  # noqa: TRY301
        plain = unquote_plus if root.findtext("EncodingType") == "url" else str
        keys = [(plain(one.findtext("Key") or ""), one) for one in root.iterfind("Contents")]
        entries = [_entry(key.removeprefix(prefix), one) for key, one in keys if _is_name(key.removeprefix(under))]
        folders = [plain(one.findtext("Prefix") or "").removeprefix(under) for one in root.iterfind("CommonPrefixes")]
        more = root.findtext("IsTruncated") == "true"
        token = root.findtext("NextContinuationToken") if more else None
        if more and not token:
            raise ValueError("more, but no token")  # noqa: TRY301
    except (ValueError, OverflowError):
        raise RepositoryNotReadable(f"Reading {place} failed: the server's answer is no listing.") from None
    return Page(entries, folders, token)


def _entry(name: str, element: ET.Element) -> Entry:
    modified = datetime.fromisoformat(element.findtext("LastModified") or "")
    if modified.tzinfo is None:
        raise ValueError("a time without a zone")
    return Entry(name, int(element.findtext("Size") or ""), modified)


def _is_name(text: str) -> bool:
    """Return True for the name of an object directly in the folder that is listed, as the library would take it."""
    return text not in {"", ".", ".."} and "/" not in text and _CONTROL.search(text) is None


def foreign_key(place: str, refused: InvalidPathError, why: str = "") -> RepositoryNotReadable:
    """Return the error for a folder that cannot be listed for a key in it: `refused` is the library's error."""
    key = _KEY.search(str(refused))
    which = f'the key "{one_line(key[1])}"' if key else "a key with an empty segment"
    return RepositoryNotReadable(
        f"Listing {place} failed: {which} is no name of ours, and the library lists nothing beside it.{why}",
        advice="Delete the object with that key from the bucket. This program writes no such key.",
    )
