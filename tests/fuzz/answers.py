"""What a server of object storage, or whoever is between, says to a listing."""

from __future__ import annotations

from random import Random

from freezeframe.repository.store.s3_listing import page_of
from tests.fuzz.target import Mutate, Target

UNDER, PREFIX = "a/manifests/", "a/"

_CONTENTS = (
    "<Contents><Key>a/manifests/{}</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified><Size>{}</Size></Contents>"
)
_MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"


def _page(*inside: str) -> bytes:
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f"<?xml version='1.0'?><ListBucketResult {space}>{''.join(inside)}</ListBucketResult>".encode()


def _seeds() -> list[bytes]:
    end = "<IsTruncated>false</IsTruncated>"
    url = "<EncodingType>url</EncodingType>"
    folder = "<CommonPrefixes><Prefix>a/manifests/x/</Prefix></CommonPrefixes>"
    return [
        _page(end),
        _page(url, _MORE, _CONTENTS.format("x", 1), folder),
        _page(end, _CONTENTS.format("a", 0), _CONTENTS.format("b%2B", 9)),
        b"<html></html>",
        b"<Error><Code>SlowDown</Code></Error>",
    ]


def _check(data: bytes) -> None:
    """It is refused, or it is a page of objects that are directly in the folder."""
    try:
        page = page_of(data, UNDER, PREFIX)
    except ValueError:
        return
    assert b"ListBucketResult" in data or b"\0" in data  # else in UTF-16, which expat reads too
    for entry in page.entries:
        name = entry.name.removeprefix("manifests/")
        assert entry.name == f"manifests/{name}"
        assert name not in {"", ".", ".."}
        assert "/" not in name
        assert name.isprintable() or name.encode()
        assert entry.size >= 0
        assert entry.modified.tzinfo is not None
    assert page.token is None or page.token


def _mend(data: bytes, mutate: Mutate, chance: Random) -> bytes:
    """Another text within one of the elements."""
    parts = data.split(b">")
    at = chance.randrange(len(parts))
    text, found, rest = parts[at].partition(b"<")
    parts[at] = mutate(text).replace(b"<", b"").replace(b">", b"") + found + rest
    return b">".join(parts)


ANSWERS = (Target("listing", _seeds, _check, _mend),)
