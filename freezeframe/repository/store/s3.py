"""A store in a bucket of S3-compatible object storage.

What a PUT has answered is visible, durable and settled at once, so there is nothing to stage and nothing to settle; what the
server must be for that stands in docs/repository.md. Nothing is tried twice in here but a create that met another one (409):
`retrying.py` wraps a store for that.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import obstore

from freezeframe.repository.errors import AlreadyExists, ObjectNotFound, RepositoryNotWritable, RepositoryUnsupported
from freezeframe.repository.layout import TMP, checked_name, folder_of
from freezeframe.repository.store.backend import MOVE_WINDOW_S, Entry, always
from freezeframe.repository.store.fault import check_length
from freezeframe.repository.store.s3_fault import creating, reading, writing
from freezeframe.repository.table import temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obstore.store import S3Store as Bucket
    from typing_extensions import Buffer

#: PUTs of one `put_many` at once. A writer calls four of them side by side (commit.py), so that is 32: at 512 KiB and 30 ms a
#: PUT about 500 MB/s, as much as one host reads and compresses.
_PUTS_AT_ONCE: Final = 8

#: Above that a PUT is refused by the protocol, and multipart uploads leave parts behind when a writer dies.
_PUT_BYTES_MAX: Final = 5 << 30

_PIECE_BYTES: Final = 1 << 20
_IN_MEMORY_BYTES: Final = 8 << 20  # an object that is opened; larger ones go to a temporary file

_ADVICE_SERVER: Final = "Use an S3 server that has what docs/repository.md asks of it."


class S3Store:
    """Objects under the prefix that `bucket` has. `address` is how a user writes it."""

    def __init__(self, bucket: Bucket, address: str) -> None:
        self._bucket = bucket
        self._address = address

    @property
    def address(self) -> str:
        return self._address

    def put(self, name: str, source: BinaryIO) -> None:
        data = source.read(_PUT_BYTES_MAX + 1)
        if len(data) > _PUT_BYTES_MAX:
            raise RepositoryNotWritable(
                f"{self._place(name)} would be larger than 5 GiB.",
                advice="Keep this disk in a repository in a directory, or in one with larger chunks.",
            )
        self._put(name, data)

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        for name, _ in objects:
            checked_name(name)
        pool = ThreadPoolExecutor(_PUTS_AT_ONCE, thread_name_prefix="put")
        try:
            for done in as_completed([pool.submit(self._put, name, data) for name, data in objects]):
                done.result()
        finally:
            # after an error the rest is not begun: each of them would wait for its own
            pool.shutdown(cancel_futures=True)

    def put_if_absent(self, name: str, data: Buffer) -> None:
        try:
            with creating(self._place(name)):
                obstore.put(self._bucket, checked_name(name), data, mode="create", use_multipart=False)
        except AlreadyExists:
            # obstore 0.12 says the same for 412 (it is there) and 409 (somebody is at it, and may yet fail)
            if self.exists(name):
                raise
            raise RepositoryNotWritable(
                f"Writing {self._place(name)} met another writer.", advice="Try again.", transient=True
            ) from None

    def settle(self, folders: Iterable[str]) -> None:
        pass

    def get(self, name: str) -> bytes:
        with reading(self._place(name)):
            answer = obstore.get(self._bucket, checked_name(name))
            check_length(name, answer.meta["size"], self._place(name))
            return bytes(answer.bytes())

    def open(self, name: str) -> BinaryIO:
        """A copy of the object, so that what is read twice is the same, and a server that fails does so here."""
        with temporary():
            # closed by the caller; the cast leaves out what only the stubs know
            copy = cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, prefix="freezeframe-"))  # noqa: SIM115
        try:
            for piece in self._pieces(name):
                with temporary():
                    copy.write(piece)
            with temporary():  # writes what is left in its buffer
                copy.seek(0)
        except BaseException:
            with suppress(OSError):  # it tries that once more
                copy.close()
            raise
        return copy

    def exists(self, name: str) -> bool:
        try:
            with reading(self._place(name)):
                obstore.head(self._bucket, checked_name(name))
        except ObjectNotFound:
            return False
        return True

    def size(self, name: str) -> int:
        with reading(self._place(name)):
            return obstore.head(self._bucket, checked_name(name))["size"]

    def names(self, folder: str) -> Iterator[str]:
        """All pages are read before the first name is given, so a listing that fails gives none."""
        return (entry.name for entry in self.entries(folder))

    def entries(self, folder: str) -> Iterator[Entry]:
        with reading(self._place(folder)):
            listing = obstore.list_with_delimiter(self._bucket, checked_name(folder) if folder else None)
            found = [Entry(one["path"], one["size"], one["last_modified"]) for one in listing["objects"]]
        # a server's own marker of a folder, `chunks/ab/`, is listed as `chunks/ab`
        return (entry for entry in found if folder_of(entry.name) == folder)

    def top(self) -> list[str]:
        """What is directly under the prefix, objects and folders."""
        with reading(self.address):
            listing = obstore.list_with_delimiter(self._bucket)
            return sorted([*listing["common_prefixes"], *(entry["path"] for entry in listing["objects"])])

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        """A copy by the server, which is looked at, then a delete.

        The delete is not sent if the window since the copy began is over: another run of garbage collection may have dealt with
        the copy by then. Nor is it tried again: whoever stood still for that long knows too little of the world.
        """
        allowed()
        began = time.monotonic()
        with writing(self._place(name)):
            obstore.copy(self._bucket, checked_name(name), checked_name(to))
        # a copy that breaks off may be answered with 200, and an error in the body
        if not self.exists(to):
            raise RepositoryNotWritable(f"Copying {self._place(name)} left no copy.", transient=True)
        if time.monotonic() - began > MOVE_WINDOW_S:
            raise RepositoryNotWritable(
                f"Moving {self._place(name)} took longer than {MOVE_WINDOW_S:.0f} s, and was not ended.",
                advice="Run the command again. Nothing is lost.",
            )
        self.delete(name)

    def delete(self, name: str) -> None:
        with writing(self._place(name)):
            obstore.delete(self._bucket, checked_name(name))

    def drop_cached(self, name: str) -> None:
        pass

    def check_writable(self) -> None:
        """Beside permission this tries conditional PUT and whether a list is up to date. Raises RepositoryUnsupported."""
        name = f"{TMP}/{secrets.token_hex(16)}"
        self.put_if_absent(name, bytes(32))
        try:
            self._check_refused(name)
            if name not in self.names(TMP):
                raise RepositoryUnsupported(
                    f"The server of {self.address} does not list what was written a moment ago.", advice=_ADVICE_SERVER
                )
        finally:
            self.delete(name)

    def free_bytes(self) -> int | None:
        return None

    def _check_refused(self, name: str) -> None:
        try:
            self.put_if_absent(name, bytes(32))
        except AlreadyExists:
            return
        raise RepositoryUnsupported(
            f"The server of {self.address} ignores If-None-Match: it wrote over an object that was to be created.",
            advice=_ADVICE_SERVER,
        )

    def _put(self, name: str, data: Buffer) -> None:
        with writing(self._place(name)):
            obstore.put(self._bucket, checked_name(name), data, use_multipart=False)

    def _pieces(self, name: str) -> Iterator[bytes]:
        with reading(self._place(name)):
            for piece in obstore.get(self._bucket, checked_name(name)).stream(_PIECE_BYTES):
                yield bytes(piece)

    def _place(self, name: str) -> str:
        return f"{self._address}/{name}"
