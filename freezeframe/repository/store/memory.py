"""A store in memory, for tests: what it promises, it keeps by having nothing that could crash."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from freezeframe.repository.errors import AlreadyExists, ObjectNotFound
from freezeframe.repository.layout import folder_of
from freezeframe.repository.store.backend import Entry, Traffic, always
from freezeframe.repository.store.fault import check_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer


class MemoryStore:
    """Objects in a dict, stamped by `clock`."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._objects: dict[str, bytes] = {}
        self._modified: dict[str, datetime] = {}
        self._clock = clock
        self._lock = threading.RLock()

    @property
    def address(self) -> str:
        return "memory:"

    @property
    def traffic(self) -> Traffic:
        return Traffic(at_once=4, remote=False)

    def put(self, name: str, source: BinaryIO) -> None:
        self._set(name, source.read())

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        for name, data in objects:
            self._set(name, bytes(data))

    def put_if_absent(self, name: str, data: Buffer) -> None:
        with self._lock:
            if name in self._objects:
                raise AlreadyExists(f"{name} exists.")
            self._set(name, bytes(data))

    def settle(self, folders: Iterable[str]) -> None:
        pass

    def get(self, name: str) -> bytes:
        data = self._get(name)
        check_length(name, len(data), name)
        return data

    def open(self, name: str) -> BinaryIO:
        return BytesIO(self._get(name))

    def exists(self, name: str) -> bool:
        return name in self._objects

    def size(self, name: str) -> int:
        return len(self.get(name))

    def modified(self, name: str) -> datetime:
        with self._lock:
            self._get(name)
            return self._modified[name]

    def names(self, folder: str) -> Iterator[str]:
        return iter([name for name in list(self._objects) if folder_of(name) == folder])

    def entries(self, folder: str) -> Iterator[Entry]:
        with self._lock:
            found = [Entry(name, len(self._objects[name]), self._modified[name]) for name in self.names(folder)]
        return iter(found)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        allowed()
        with self._lock:
            self._objects[to] = self.get(name)
            self._modified[to] = self._modified[name]
            self.delete(name)

    def delete(self, name: str) -> None:
        with self._lock:
            self._objects.pop(name, None)
            self._modified.pop(name, None)

    def drop_cached(self, name: str) -> None:
        pass

    def check_writable(self) -> None:
        pass

    def free_bytes(self) -> int | None:
        return None

    def _set(self, name: str, data: bytes) -> None:
        with self._lock:
            self._objects[name] = data
            self._modified[name] = self._clock()

    def _get(self, name: str) -> bytes:
        try:
            return self._objects[name]
        except KeyError as error:
            raise ObjectNotFound(f"{name} is not there.") from error
