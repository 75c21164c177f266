"""A store for a machine that takes nothing away: it deletes, moves and replaces no object of another.

    FREEZEFRAME_REPOSITORY_DELETES=no, so that credentials suffice that may get, list and create

| asked for | then |
|---|---|
| delete an object in `tmp/` | it is left: garbage collection deletes it by its age |
| delete or move anything else | DeletesRefused |
| put, in object storage | a create (`If-None-Match: *`). A chunk or an index that is there is the same |
| put a record of verification, in object storage | DeletesRefused: the machine that does retention writes them over |
| put a session, in object storage | a put: whoever has begun it says in its place that it has ended |
| put, in a directory | a put: no permission of a file system tells creating from replacing |

A create is one request, so an index is in memory while it is stored.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, BinaryIO, Final

from freezeframe.repository.errors import AlreadyExists, DeletesRefused, RepositoryUnsupported
from freezeframe.repository.layout import CHUNKS, INDEXES, SESSIONS, TMP, VERIFIED, is_suspect, is_temporary
from freezeframe.repository.store.backend import always

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from typing_extensions import Buffer

    from freezeframe.repository.store.backend import Entry, Store, Traffic

#: What is created to try whether that can be done.
PROBE: Final = bytes(32)

_BY_CONTENT = (f"{CHUNKS}/", f"{INDEXES}/")


class Keeping:
    """`store`, from which nothing is taken away. Any thread may call."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def address(self) -> str:
        return self._store.address

    @property
    def traffic(self) -> Traffic:
        return self._store.traffic

    def put(self, name: str, source: BinaryIO) -> None:
        if self._creates(name):
            self._check_no_record(name)
            self._create(name, source.read())
        else:
            self._store.put(name, source)

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        if not self.traffic.remote:
            self._store.put_many(objects)
            return
        for name, data in objects:  # a writer has threads of its own, each with one object
            self._create(name, data)

    def put_if_absent(self, name: str, data: Buffer) -> None:
        self._store.put_if_absent(name, data)

    def settle(self, folders: Iterable[str]) -> None:
        self._store.settle(folders)

    def get(self, name: str) -> bytes:
        return self._store.get(name)

    def open(self, name: str) -> BinaryIO:
        return self._store.open(name)

    def exists(self, name: str) -> bool:
        return self._store.exists(name)

    def size(self, name: str) -> int:
        return self._store.size(name)

    def modified(self, name: str) -> datetime:
        return self._store.modified(name)

    def names(self, folder: str) -> Iterator[str]:
        return self._store.names(folder)

    def entries(self, folder: str) -> Iterator[Entry]:
        return self._store.entries(folder)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:  # noqa: ARG002
        raise DeletesRefused(f"{self.address}/{name} is not moved: this machine takes nothing away.")

    def delete(self, name: str) -> None:
        if not is_temporary(name):
            raise DeletesRefused(f"{self.address}/{name} is not deleted: this machine takes nothing away.")

    def drop_cached(self, name: str) -> None:
        self._store.drop_cached(name)

    def check_writable(self) -> None:
        """In object storage an object of 32 bytes is left in `tmp/`."""
        if self.traffic.remote:
            name = f"{TMP}/{secrets.token_hex(16)}"
            self._store.put_if_absent(name, PROBE)
            check_created(self._store, name)
        else:
            self._store.check_writable()

    def free_bytes(self) -> int | None:
        return self._store.free_bytes()

    def _check_no_record(self, name: str) -> None:
        if name.startswith(f"{VERIFIED}/") and not is_suspect(name):
            raise DeletesRefused(f"{self.address}/{name} is a record, and this machine replaces none.")

    def _creates(self, name: str) -> bool:
        return self.traffic.remote and not name.startswith(f"{SESSIONS}/")

    def _create(self, name: str, data: Buffer) -> None:
        try:
            self._store.put_if_absent(name, data)
        except AlreadyExists as error:
            if not name.startswith(_BY_CONTENT):
                raise DeletesRefused(
                    f"{self.address}/{name} is there, and is not replaced: this machine takes nothing away."
                ) from error


def check_created(store: Store, name: str) -> None:
    """Try, with a probe that was created, whether the server creates no object twice, and lists it at once.

    Raises RepositoryUnsupported, and what creating raises.
    """
    advice = "Use an S3 server that has what docs/repository.md asks of it."
    try:
        store.put_if_absent(name, PROBE[1:])  # other bytes: after a lost answer the same would count as ours
    except AlreadyExists:
        pass
    else:
        raise RepositoryUnsupported(
            f"The server of {store.address} ignores If-None-Match: it wrote over an object that was to be created.",
            advice=advice,
        )
    if name not in store.names(TMP):
        raise RepositoryUnsupported(
            f"The server of {store.address} does not list what was written a moment ago.", advice=advice
        )


def check_may_delete(store: Store, verb: str) -> None:
    """Raise DeletesRefused, before anything is done, if this machine takes nothing away and `verb` would."""
    if isinstance(store, Keeping):
        raise DeletesRefused(
            f"The verb {verb} takes objects of {store.address} away or replaces them, and this machine does neither."
        )
