"""A store in a bucket of S3-compatible object storage.

What a PUT has answered is visible, durable and settled at once, so there is nothing to stage and nothing to settle; what the
server must be for that stands in docs/repository.md. An operation of one request is tried again by `retrying.py`, which wraps
this; of one that consists of many, each is tried again here.
"""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

import obstore

from freezeframe.repository.errors import AlreadyExists, ObjectNotFound, RepositoryNotWritable
from freezeframe.repository.layout import CHUNKS, TMP, checked_name
from freezeframe.repository.store import s3_parts
from freezeframe.repository.store.backend import MOVE_WINDOW_S, Entry, Traffic, always
from freezeframe.repository.store.fault import check_length
from freezeframe.repository.store.keeping import PROBE, check_created
from freezeframe.repository.store.s3_fault import creating, reading, understood, writing
from freezeframe.repository.store.s3_head import head_of, said_of
from freezeframe.repository.temporary import spooled_file, temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from obstore import ObjectMeta
    from obstore.store import S3Store as Bucket
    from typing_extensions import Buffer

    from freezeframe.repository.store.patience import Patience
    from freezeframe.repository.store.s3_listing import Listings

#: Requests at once: docs/bench.md has the curve.
TRAFFIC: Final = Traffic(at_once=64, remote=True)

#: PUTs of one `put_many` at once.
_PUTS_AT_ONCE: Final = 8

_IN_MEMORY_BYTES: Final = 8 << 20  # an object that is opened; larger ones go to a temporary file


class S3Store:
    """Objects under the prefix that `bucket` has. `address` is how a user writes it.

    `patient` connects to the same once more, with a bucket that tries each request again by itself, for so many seconds.
    """

    def __init__(
        self,
        bucket: Bucket,
        address: str,
        patience: Patience,
        patient: Callable[[float], Bucket],
        listings: Listings,
    ) -> None:
        self._bucket = bucket
        self._listings = listings
        self._address = address
        self._patience = patience
        self._patient = patient

    @property
    def address(self) -> str:
        return self._address

    @property
    def traffic(self) -> Traffic:
        return TRAFFIC

    def put(self, name: str, source: BinaryIO) -> None:
        start = source.tell()
        first = s3_parts.read_first_part(source)
        if len(first) < s3_parts.PART_BYTES:
            self._put(name, first)
            return
        del first  # the memory of a part
        source.seek(start)
        s3_parts.upload(self._patient, self._bucket, checked_name(name), self._place(name), source, self._patience)

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        for name, _ in objects:
            checked_name(name)
        if len(objects) == 1:  # as a writer's, who has threads of its own
            self._put(*objects[0])
            return
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
            understood(answer.meta, self._place(name), answer.attributes)
            check_length(name, answer.meta["size"], self._place(name))
            return bytes(answer.bytes())

    def open(self, name: str) -> BinaryIO:
        """A copy of the object, so that what is read twice is the same, and a server that fails does so here."""
        with temporary():
            copy = spooled_file(_IN_MEMORY_BYTES)  # closed by the caller
        try:
            with temporary():
                s3_parts.copy_to(copy, self._bucket, checked_name(name), self._place(name), self._patience)
                copy.seek(0)  # writes what is left in its buffer
        except BaseException:
            with suppress(OSError):  # it tries that once more
                copy.close()
            raise
        return copy

    def exists(self, name: str) -> bool:
        # a chunk that only seems not to be there is written anew, and a writer asks for each
        look = said_of if name.startswith(f"{CHUNKS}/") else head_of
        try:
            look(self._bucket, checked_name(name), self._place(name))
        except ObjectNotFound:
            return False
        return True

    def size(self, name: str) -> int:
        return self._head(name)["size"]

    def modified(self, name: str) -> datetime:
        return self._head(name)["last_modified"]

    def names(self, folder: str) -> Iterator[str]:
        return (entry.name for entry in self.entries(folder))

    def entries(self, folder: str) -> Iterator[Entry]:
        return self._listings.entries(folder, self._place(folder), self._patience)

    def top(self) -> list[str]:
        """Return the names directly under the prefix: of objects and of folders."""
        return self._listings.top(self.address, self._patience)

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
        self.put_if_absent(name, PROBE)
        try:
            check_created(self, name)
        finally:
            self._delete_probe(name)

    def free_bytes(self) -> int | None:
        return None

    def _delete_probe(self, name: str) -> None:
        try:
            self.delete(name)
        except RepositoryNotWritable as error:
            if not error.transient:
                error.hint = (
                    f"{error.hint} If this machine is not to delete, set FREEZEFRAME_REPOSITORY_DELETES=no on it."
                )
            raise

    def _head(self, name: str) -> ObjectMeta:
        return head_of(self._bucket, checked_name(name), self._place(name))

    def _put(self, name: str, data: Buffer) -> None:
        def attempt() -> None:
            with writing(self._place(name)):
                obstore.put(self._bucket, checked_name(name), data, use_multipart=False)

        self._patience.tried(attempt)

    def _place(self, name: str) -> str:
        return f"{self._address}/{name}"
