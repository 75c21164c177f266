"""From what an object storage says to what a user can act on.

The library's exceptions carry the server's whole answer, in which credentials' names and signatures may stand. So nothing of
it is repeated but the HTTP status and the error's code, and the exception itself is not chained.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from freezeframe.repository.errors import (
    AlreadyExists,
    ObjectNotFound,
    RepositoryError,
    RepositoryFull,
    RepositoryNotFound,
    RepositoryNotReadable,
    RepositoryNotWritable,
    RepositoryUnsupported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import Attributes, ObjectMeta

# obstore 0.12 tells these only in its text: "Server returned non-2xx status code: 503 Slow Down: <?xml …", "kind: Connect"
_STATUS: Final = re.compile(r"status code: (\d{3})\b")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_KIND: Final = re.compile(r"\bkind: (Connect|Timeout)\b")
_NO_HTTP: Final = re.compile(r"HTTP error|HttpError|reqwest")
_UNTRUSTED: Final = re.compile(r"\bInvalidCertificate\(|CERTIFICATE_VERIFY_FAILED")  # the library's, Python's

#: An answer with a status of success that is none: an error's code in the body, as at the end of an upload, or a proxy's page.
_GARBLED: Final = re.compile(
    r"Got invalid \w+ response|Server returned error response|Unable to extract metadata from headers|"
    r"Received non-partial response|Content-Range header not present|Invalid last modified"
)

#: Codes for "no room": Ceph's, MinIO's and RFC 4918's.
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "InsufficientCapacity"})

#: Codes of temporary credentials that are over. Whoever renews them may be a moment late, and they are read again
#: (`s3_client.py`).
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})

#: Codes that ask to try again, whatever the status: Amazon's own, whose status is not always one of those below (RequestTimeout
#: is 400), MinIO's Busy and SlowDownRead and SlowDownWrite, and gateways' names for the same. Not RequestTimeTooSkewed: that
#: is a clock. [Amazon S3 API reference, "Error responses", list of error codes; MinIO cmd/api-errors.go]
_LATER_CODES: Final = frozenset(
    {
        "Busy",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)

#: Codes that say at the end of an upload that parts of it are gone: a lifecycle rule has ended it, the last request was sent
#: twice, or the server has not got what it answered for. Only an upload from the first part on mends that.
#: [Amazon S3 API reference, CompleteMultipartUpload: NoSuchUpload is 404, InvalidPart 400]
_PARTS_LOST: Final = frozenset({"NoSuchUpload", "InvalidPart"})

#: "Later": request timeout, conflict with another request, too many requests. With every 5xx but 501 and 507.
_LATER: Final = frozenset({408, 409, 429})

_ADVICE_ACCESS: Final = (
    "Check the credentials (FREEZEFRAME_S3_ACCESS_KEY_ID or Amazon's names for them), their rights on the bucket "
    "(docs/repository.md), and that this machine's clock is right."
)
_ADVICE_EXPIRED: Final = (
    "The temporary credentials are over. Renew them in Amazon's shared credentials file, which is read again while a program "
    "runs; where they come from settings or the environment, start the program again with new ones."
)
_ADVICE_SERVER: Final = "Check FREEZEFRAME_S3_ENDPOINT, the network and the server; what is sealed is not affected."
_ADVICE_CERTIFICATE: Final = (
    "Check that the certificate is in date and names the host of FREEZEFRAME_S3_ENDPOINT. An authority of your own belongs "
    "into the system's certificates, or into the file that SSL_CERT_FILE names."
)
_ADVICE_FULL: Final = (
    "Raise the bucket's quota or extend the storage, and capture again; what is sealed is not affected."
)
_ADVICE_BUCKET: Final = "Check the bucket's name and FREEZEFRAME_S3_ENDPOINT; a bucket is never made by this program."
_ADVICE_PARTS: Final = (
    "Look for a lifecycle rule of the bucket that aborts incomplete multipart uploads early; 7 days are right. "
    "What is sealed is not affected."
)
_ADVICE_SETTINGS: Final = "Check FREEZEFRAME_S3_REGION, FREEZEFRAME_S3_ENDPOINT and the credentials."
_ADVICE_LACKS: Final = (
    "Use an S3 server that has conditional PUT (If-None-Match); docs/repository.md says what is needed."
)


#: The library's threads are those of the process that loaded it. In a forked child every request would wait for ever (seen with
#: 0.12.1, whatever the timeouts), so there each is refused instead.
_process = os.getpid()


@dataclass(frozen=True)
class Answer:
    """The facts about a request that failed. `status` None: there was no answer, and `kind` may say why."""

    status: int | None = None
    code: str | None = None
    kind: str | None = None
    no_http: bool = False  # the exchange itself failed, before or in the middle of an answer
    untrusted: bool = False  # the server's certificate. It may be renewed while a transfer waits
    garbled: bool = False  # there was an answer that cannot be understood, or that is not the server's

    @classmethod
    def of(cls, text: str) -> Answer:
        found, code, kind = _STATUS.search(text), _CODE.search(text), _KIND.search(text)
        status = int(found[1]) if found else None
        return cls(
            status=status,
            code=code[1] if code else None,
            kind=kind[1] if kind else None,
            no_http=bool(_NO_HTTP.search(text)),
            untrusted=bool(_UNTRUSTED.search(text)),
            # object storage says which thing it is that is not there; a proxy without a server says 404 too
            garbled=bool(_GARBLED.search(text)) or (status == 404 and code is None),
        )

    @property
    def transient(self) -> bool:
        if self.garbled:
            return True
        if self.status is None:
            return self.no_http
        if self.expired or self.code in _LATER_CODES or self.status in _LATER:
            return True
        return self.status >= 500 and self.status not in {501, 507}

    @property
    def expired(self) -> bool:
        return self.code in _EXPIRED

    @property
    def reason(self) -> str:
        if self.garbled:
            said = self.code or self.status
            return f"the server's answer cannot be understood{f' ({said})' if said else ''}"
        if self.status is not None:
            return f"the server said {self.status}{f' {self.code}' if self.code else ''}"
        if self.untrusted:
            return "the server's certificate is not trusted"
        if self.kind == "Connect":
            return "the server cannot be reached"
        if self.kind == "Timeout":
            return "the server did not answer in time"
        return "the exchange with the server failed"


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn obstore's errors into RepositoryNotReadable, ObjectNotFound or RepositoryNotFound, naming the place."""
    with _asking(f"Reading {place}", place, RepositoryNotReadable):
        yield


@contextmanager
def asking_for_the_head(place: str) -> Iterator[None]:
    """As `reading`, for HEAD. Its answer has no body, so ObjectNotFound is raised for any 404, be it of a proxy."""
    with _asking(f"Reading {place}", place, RepositoryNotReadable, has_body=False):
        yield


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Turn obstore's errors into RepositoryNotWritable, RepositoryFull, RepositoryUnsupported or RepositoryNotFound."""
    with _asking(f"Writing {place}", place, RepositoryNotWritable):
        yield


@contextmanager
def creating(place: str) -> Iterator[None]:
    """As `writing`, but AlreadyExists where the server refuses for the sake of another object: 412, and 409 too."""
    with writing(place):
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise AlreadyExists(f"{place} exists.") from None


@contextmanager
def _asking(
    doing: str,
    place: str,
    failed: type[RepositoryNotReadable | RepositoryNotWritable],
    *,
    has_body: bool = True,
) -> Iterator[None]:
    if os.getpid() != _process:
        raise RepositoryError(
            f"{doing} failed: this process was forked from one that had object storage open.",
            advice="This is a mistake in the program: open the repository after the fork, and only there.",
        )
    try:
        yield
    except (BaseError, OSError) as error:  # what is not found is a FileNotFoundError
        answer = Answer.of(str(error))
        if answer.status == 404 and not has_body:
            raise ObjectNotFound(f"{place} is not there.") from None
        raise error_of(answer, doing, place, failed) from None


def understood(meta: ObjectMeta, place: str, attributes: Attributes) -> ObjectMeta:
    """Return what a server said of an object. Raises RepositoryNotReadable if it is not the answer of object storage.

    Each such server says an ETag and a time. What lies between may answer with 200 and its own page: then there would be an
    object, and from 1970, which the library says where there is no time. A page may have both, but no object of ours is one;
    `attributes` tell.
    """
    kind = str(attributes.get("Content-Type", ""))
    if meta["e_tag"] is None or meta["last_modified"].timestamp() <= 0 or kind.lower().startswith("text/html"):
        raise error_of(Answer(garbled=True), f"Reading {place}", place, RepositoryNotReadable)
    return meta


def error_of(
    answer: Answer, doing: str, place: str, failed: type[RepositoryNotReadable | RepositoryNotWritable]
) -> RepositoryError:
    """The error for a request that failed: `failed`, or a class that says more."""
    sentence = f"{doing} failed: {answer.reason}."
    if answer.code == "NoSuchBucket":
        return RepositoryNotFound(f"There is no bucket for {place}.", advice=_ADVICE_BUCKET)
    if answer.code in _PARTS_LOST:
        return failed(f"{doing} failed: the server has lost its parts.", advice=_ADVICE_PARTS, transient=True)
    if answer.status == 404 and not answer.garbled:
        return ObjectNotFound(f"{place} is not there.")
    if answer.status == 507 or answer.code in _FULL:
        return RepositoryFull(sentence, advice=_ADVICE_FULL)
    if answer.status == 501:
        return RepositoryUnsupported(sentence, advice=_ADVICE_LACKS)
    return failed(sentence, advice=_advice(answer), transient=answer.transient)


def _advice(answer: Answer) -> str:
    if answer.expired:
        return _ADVICE_EXPIRED
    if answer.untrusted and answer.status is None:
        return _ADVICE_CERTIFICATE
    if answer.transient:
        return _ADVICE_SERVER
    return _ADVICE_ACCESS if answer.status in {401, 403} else _ADVICE_SETTINGS
