"""A store that tries again what did not go through.

Everything a store does may be done twice, but for a create or a move whose answer was lost: see `put_if_absent` and `move`.
The store itself tries again what consists of many requests (`put`, `put_many`, `open`, `names`, `entries`), each by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from freezeframe.repository.errors import AlreadyExists, ObjectNotFound, RepositoryError
from freezeframe.repository.store.backend import always

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from typing_extensions import Buffer

    from freezeframe.repository.store.backend import Entry, Store, Traffic
    from freezeframe.repository.store.patience import Patience


class Retrying:
    """`store`, with patience. Any thread may call."""

    def __init__(self, store: Store, patience: Patience) -> None:
        self._store = store
        self._patience = patience

    @property
    def address(self) -> str:
        return self._store.address

    @property
    def traffic(self) -> Traffic:
        return self._store.traffic

    def put(self, name: str, source: BinaryIO) -> None:
        self._store.put(name, source)

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        self._store.put_many(objects)

    def put_if_absent(self, name: str, data: Buffer) -> None:
        """A create whose answer was lost may have succeeded. So from then on an object of the same bytes is taken for ours."""
        in_doubt = False

        def attempt() -> None:
            nonlocal in_doubt
            try:
                self._store.put_if_absent(name, data)
            except AlreadyExists:
                if not in_doubt or self._store.get(name) != data:
                    raise
            except RepositoryError as error:
                in_doubt = in_doubt or error.transient
                raise

        self._patience.tried(attempt)

    def settle(self, folders: Iterable[str]) -> None:
        wanted = list(folders)
        self._patience.tried(lambda: self._store.settle(wanted))

    def get(self, name: str) -> bytes:
        return self._patience.tried(lambda: self._store.get(name))

    def open(self, name: str) -> BinaryIO:
        return self._store.open(name)

    def exists(self, name: str) -> bool:
        return self._patience.tried(lambda: self._store.exists(name))

    def size(self, name: str) -> int:
        return self._patience.tried(lambda: self._store.size(name))

    def modified(self, name: str) -> datetime:
        return self._patience.tried(lambda: self._store.modified(name))

    def names(self, folder: str) -> Iterator[str]:
        return self._store.names(folder)

    def entries(self, folder: str) -> Iterator[Entry]:
        return self._store.entries(folder)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        """A move whose answer was lost may have been made: then the object is at its end, and not at its beginning."""
        in_doubt = False

        def attempt() -> None:
            nonlocal in_doubt
            try:
                self._store.move(name, to, allowed)
            except ObjectNotFound:
                if not in_doubt or not self._store.exists(to):
                    raise
            except RepositoryError as error:
                in_doubt = in_doubt or error.transient
                raise

        self._patience.tried(attempt)

    def delete(self, name: str) -> None:
        self._patience.tried(lambda: self._store.delete(name))

    def drop_cached(self, name: str) -> None:
        self._store.drop_cached(name)

    def check_writable(self) -> None:
        self._patience.tried(self._store.check_writable)

    def free_bytes(self) -> int | None:
        return self._patience.tried(self._store.free_bytes)
