"""A bucket as object storage keeps one: what an answering server says, until a test has it say something else."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

from .s3 import Asked, Reply

_LONG_AGO = datetime(2026, 3, 1, 12, tzinfo=UTC)
_XML = "<?xml version='1.0'?>"


@dataclass
class FakeBucket:
    """Objects by their keys. `trouble` is asked first: what it answers, if anything, is said in place of what was done."""

    page: int = 1000  # names in a listing
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    modified: dict[str, datetime] = field(default_factory=dict)
    trouble: Callable[[Asked], Reply | None] = lambda _: None
    trouble_after: Callable[[Asked], Reply | None] = lambda _: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Reply:
        with self.lock:
            said = self.trouble(asked)
            if said is not None:
                return said
            reply = self._done(asked)
            return self.trouble_after(asked) or reply

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data
        self.versions[key] = self.versions.get(key, 0) + 1
        self.modified[key] = datetime.now(UTC)

    def _done(self, asked: Asked) -> Reply:
        parts = urlsplit(asked.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        key = parts.path.removeprefix("/bucket").lstrip("/")
        if "list-type" in query:
            return self._listing(query)
        if "uploads" in query:
            return self._begin()
        if "uploadId" in query:
            return self._upload(asked, key, query)
        return self._read(asked, key) if asked.method in {"GET", "HEAD"} else self._change(asked, key)

    def _change(self, asked: Asked, key: str) -> Reply:
        if asked.method == "DELETE":
            self.objects.pop(key, None)
            return Reply(204)
        if asked.create and key in self.objects:
            return Reply.error(412, "PreconditionFailed")
        if "x-amz-copy-source" in asked.headers:
            return self._copy(unquote(asked.headers["x-amz-copy-source"]).removeprefix("bucket/"), key)
        self.put(key, asked.body)
        return Reply(200)

    def _copy(self, key: str, to: str) -> Reply:
        if key not in self.objects:
            return Reply.error(404, "NoSuchKey")
        self.put(to, self.objects[key])
        said = f"<LastModified>{self._at(to):%Y-%m-%dT%H:%M:%S.000Z}</LastModified><ETag>e</ETag>"
        return Reply(200, f"{_XML}<CopyObjectResult>{said}</CopyObjectResult>")

    def _read(self, asked: Asked, key: str) -> Reply:
        if key not in self.objects:
            return Reply.error(404, "NoSuchKey")
        data = self.objects[key]
        tag = {"ETag": f'"{self.versions.get(key, 0)}"', "Last-Modified": format_datetime(self._at(key), usegmt=True)}
        if asked.method == "HEAD":
            return Reply(200, "", length=len(data), headers=tag)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.range or "")
        if wanted is None:
            return Reply(200, data, headers=tag)
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        return Reply(206, data[first : last + 1], headers={**tag, "Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def _listing(self, query: dict[str, str]) -> Reply:
        after = query.get("continuation-token") or query.get("start-after") or ""
        under, delimiter = query.get("prefix", ""), query.get("delimiter", "")

        def rolled_up(key: str) -> str:
            head, found, _ = key[len(under) :].partition(delimiter) if delimiter else ("", "", "")
            return f"{under}{head}{delimiter}" if found else key

        every = {rolled_up(key) for key in self.objects if key.startswith(under)}
        keys = sorted(key for key in every if key > after)
        listed, more = keys[: self.page], len(keys) > self.page
        said = quote_plus if query.get("encoding-type") == "url" else escape
        entries = "".join(
            f"<CommonPrefixes><Prefix>{said(key)}</Prefix></CommonPrefixes>"
            if delimiter and key != under and key.endswith(delimiter)
            else f"<Contents><Key>{said(key)}</Key><LastModified>{self._at(key):%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in listed
        )
        token = (
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(listed[-1])}</NextContinuationToken>"
            if more
            else "<IsTruncated>false</IsTruncated>"
        )
        encoding = "<EncodingType>url</EncodingType>" if said is quote_plus else ""
        said_first = f"<Prefix>{said(under)}</Prefix>{encoding}{token}"
        return Reply(200, f"{_XML}<ListBucketResult>{said_first}{entries}</ListBucketResult>")

    def _at(self, key: str) -> datetime:
        return self.modified.get(key, _LONG_AGO)

    def _begin(self) -> Reply:
        upload = f"U{len(self.uploads)}"
        self.uploads[upload] = {}
        said = f"<Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId>"
        return Reply(200, f"{_XML}<InitiateMultipartUploadResult>{said}</InitiateMultipartUploadResult>")

    def _upload(self, asked: Asked, key: str, query: dict[str, str]) -> Reply:
        upload = query["uploadId"]
        if upload not in self.uploads:
            return Reply.error(404, "NoSuchUpload")
        if asked.method == "PUT":
            self.uploads[upload][int(query["partNumber"])] = asked.body
            return Reply(200)
        parts = self.uploads.pop(upload)
        if asked.method == "DELETE":
            return Reply(204)
        self.put(key, b"".join(parts[number] for number in sorted(parts)))
        said = '<Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>"e"</ETag>'
        return Reply(200, f"{_XML}<CompleteMultipartUploadResult>{said}</CompleteMultipartUploadResult>")
