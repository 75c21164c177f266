"""Objects of any size, to and from a bucket in parts: bounded memory, and a time-out and tries for each part alone.

    up      │ 8 MiB │ 8 MiB │ … │      four on their way; a short object is one PUT
    down    │ 8 MiB │ 8 MiB │ … │      one after the other, all of the same version of the object; a short one is one GET

Nothing of an upload is visible before its last request, which makes it one object. The parts of an upload whose writer died are
in no listing; a lifecycle rule of the bucket takes them away (docs/repository.md).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final

import obstore

from freezeframe.repository.errors import ObjectNotFound, RepositoryNotReadable, RepositoryNotWritable
from freezeframe.repository.store.s3_fault import reading, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import Bytes, ObjectMeta
    from obstore.store import S3Store as Bucket

    from freezeframe.repository.store.patience import Patience

#: An upload has at most 10,000 parts, so an object has at most 78 GiB: the index of a disk of 1.2 PiB at 512 KiB a chunk.
#: In `s3_timeout_s` it is through at 140 kB/s.
PART_BYTES: Final = 8 << 20
_PARTS_AT_ONCE: Final = 4

_PIECE_BYTES: Final = 1 << 20
_TRIES: Final = 5  # of an object that is replaced while it is read


def read_first_part(source: BinaryIO) -> bytearray:
    """Return what `source` has, but not more than a part. In pieces: Python makes room for all that is asked for."""
    part = bytearray()
    while len(part) < PART_BYTES and (piece := source.read(min(_PIECE_BYTES, PART_BYTES - len(part)))):
        part += piece
    return part


def upload(bucket: Bucket, name: str, place: str, first: bytearray, source: BinaryIO) -> None:
    """Store `first` and then what `source` still has. `bucket` tries each request again by itself.

    Raises RepositoryNotWritable and RepositoryFull; then nothing is visible, and what was sent is taken away if it can be.
    """
    length = len(first)

    def pieces() -> Iterator[bytes]:
        nonlocal length
        while piece := source.read(_PIECE_BYTES):
            length += len(piece)
            yield piece

    try:
        with writing(place):
            obstore.put(
                bucket,
                name,
                chain([first], pieces()),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
    except ObjectNotFound:
        # there is no such upload: the answer to the last request was lost, and it had ended it
        with writing(place):
            made = obstore.head(bucket, name)["size"] == length
        if not made:
            raise RepositoryNotWritable(f"Writing {place} failed: the server has lost its parts.") from None


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
        return answer.meta, answer.bytes() if answer.meta["size"] <= PART_BYTES else None


def _part(bucket: Bucket, name: str, place: str, meta: ObjectMeta, part: tuple[int, int]) -> Bytes:
    with reading(place):
        answer = obstore.get(bucket, name, options={"range": part})
        if _version(answer.meta) != _version(meta):
            raise ReplacedError
        return answer.bytes()


def _version(meta: ObjectMeta) -> tuple[object, int]:
    return meta["e_tag"] or meta["last_modified"], meta["size"]


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
