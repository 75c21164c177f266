"""Objects of any size, to and from a bucket in parts: bounded memory, and a time-out and tries for each part alone.

    up      │ 8 MiB │ 8 MiB │ … │      four on their way; a short object is one PUT. What the tries do not mend begins it again
    down    │ 8 MiB │ 8 MiB │ … │      one after the other, all of the same version of the object; a short one is one GET

Nothing of an upload is visible before its last request, which makes it one object. The parts of an upload whose writer died are
in no listing; a lifecycle rule of the bucket takes them away (docs/repository.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import obstore

from freezeframe.repository.errors import (
    ObjectNotFound,
    RepositoryError,
    RepositoryNotReadable,
)
from freezeframe.repository.store.s3_fault import reading, understood, writing
from freezeframe.repository.store.s3_head import head_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from obstore import Bytes, ObjectMeta
    from obstore.store import S3Store as Bucket

    from freezeframe.repository.store.patience import Patience, Wait

#: An upload has at most 10,000 parts, so an object has at most 78 GiB: the index of a disk of 1.2 PiB at 512 KiB a chunk.
#: In `s3_timeout_s` it is through at 140 kB/s.
PART_BYTES: Final = 8 << 20
_PARTS_AT_ONCE: Final = 4

#: The library has read no more than these before a part has gone through: those on their way, one that is whole and waits, and
#: one that is gathered.
_PARTS_AHEAD: Final = _PARTS_AT_ONCE + 2

#: Uploads that may fail after parts have gone through. Patience counts from the last part, so that without an end one that
#: fails late, each time, would go on for ever.
_UPLOADS_MOST: Final = 5

_PIECE_BYTES: Final = 1 << 20
_TRIES: Final = 5  # of an object that is replaced while it is read


def read_first_part(source: BinaryIO) -> bytearray:
    """Return what `source` has, but not more than a part. In pieces: Python makes room for all that is asked for."""
    part = bytearray()
    while len(part) < PART_BYTES and (piece := source.read(min(_PIECE_BYTES, PART_BYTES - len(part)))):
        part += piece
    return part


def upload(
    patient: Callable[[float], Bucket], bucket: Bucket, name: str, place: str, source: BinaryIO, patience: Patience
) -> None:
    """Store what `source` has from its place on; it is read from there again if the upload is begun again.

    `patient` makes a bucket that tries each request again by itself, which it does for too few errors: the rest begin the
    upload again. Raises RepositoryNotWritable and RepositoryFull; then nothing is visible, and what was sent is taken away if
    it can be.
    """
    start = source.tell()
    before = patience.tried(lambda: _stored(bucket, name, place))
    wait, begun_late = patience.begin(), 0
    while True:
        source.seek(start)
        pieces = _Pieces(source, wait)
        try:
            _sent(patient(patience.seconds), name, place, pieces)
        except RepositoryError as error:
            if not error.transient:
                raise
            if pieces.ended:  # the last request may have been carried out, and its answer lost
                now = patience.tried(lambda: _stored(bucket, name, place))
                if now is not None and now != before and now.size == pieces.length:
                    return
            begun_late += pieces.went_through
            if begun_late == _UPLOADS_MOST or not wait.again():
                raise
        else:
            return


class _Pieces:
    """The pieces of a source, which the library takes."""

    def __init__(self, source: BinaryIO, wait: Wait) -> None:
        self.length = 0
        self.ended = False
        self.went_through = False  # at least one part
        self._source = source
        self._wait = wait

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._source.read(_PIECE_BYTES):
            self.length += len(piece)
            if self.length > _PARTS_AHEAD * PART_BYTES:
                self.went_through = True
                self._wait.went_through()
            yield piece
        self.ended = True


def _sent(bucket: Bucket, name: str, place: str, pieces: _Pieces) -> None:
    with writing(place):
        obstore.put(
            bucket, name, iter(pieces), use_multipart=True, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        )


class _Stored(NamedTuple):
    """An object of that name, as far as it can be told from a later one."""

    size: int
    e_tag: str | None
    modified: datetime


def _stored(bucket: Bucket, name: str, place: str) -> _Stored | None:
    try:
        meta = head_of(bucket, name, place)
    except ObjectNotFound:
        return None
    return _Stored(meta["size"], meta["e_tag"], meta["last_modified"])


def download(bucket: Bucket, name: str, place: str, patience: Patience) -> Iterator[Bytes]:
    """Yield an object in parts, all of one version of it. Raises ObjectNotFound, RepositoryNotReadable and Replaced."""
    meta, whole = patience.tried(lambda: _whole_if_short(bucket, name, place))
    if whole is not None:
        yield whole
        return
    size = meta["size"]
    for start in range(0, size, PART_BYTES):
        end = min(start + PART_BYTES, size)
        yield patience.tried(lambda start=start, end=end: _part(bucket, name, place, meta, (start, end)))  # type: ignore[misc]


class ReplacedError(Exception):
    """The object was replaced while it was read."""


def _whole_if_short(bucket: Bucket, name: str, place: str) -> tuple[ObjectMeta, Bytes | None]:
    with reading(place):
        answer = obstore.get(bucket, name)
        understood(answer.meta, place, answer.attributes)
        return answer.meta, answer.bytes() if answer.meta["size"] <= PART_BYTES else None


def _part(bucket: Bucket, name: str, place: str, meta: ObjectMeta, part: tuple[int, int]) -> Bytes:
    with reading(place):
        answer = obstore.get(bucket, name, options={"range": part})
        if _version(understood(answer.meta, place, answer.attributes)) != _version(meta):
            raise ReplacedError
        return answer.bytes()


def _version(meta: ObjectMeta) -> tuple[str | None, int]:
    return meta["e_tag"], meta["size"]


def copy_to(target: BinaryIO, bucket: Bucket, name: str, place: str, patience: Patience) -> None:
    """Write an object to an empty file. Raises ObjectNotFound, RepositoryNotReadable and what writing the file raises."""
    for _ in range(_TRIES):
        try:
            for part in download(bucket, name, place, patience):  # noqa: FURB122  `writelines` keeps all in memory
                target.write(part)
        except ReplacedError:
            target.seek(0)
            target.truncate()
            continue
        return
    raise RepositoryNotReadable(f"Reading {place} failed: it was replaced while it was read, {_TRIES} times.")
