"""A store that tries again what did not go through.

    try ─ pause ─ try ─ pause ─ try …      pauses of about 0.2, 0.4, 0.8 … 5 s, until `patience_s` are over

Only errors that say of themselves that they are transient are tried again; the last one is raised. Everything a store does may
be done twice, but for a create whose answer was lost: see `put_if_absent`.
"""

from __future__ import annotations

import random
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar, cast

from freezeframe.repository.errors import AlreadyExists, ObjectNotFound, RepositoryError
from freezeframe.repository.store.backend import always
from freezeframe.repository.table import temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

    from freezeframe.repository.store.backend import Entry, Store

ResultT = TypeVar("ResultT")

_PIECE_BYTES: Final = 1 << 20
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


def pauses(random_share: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds between tries, for ever: doubling, and half of each by chance, so that many writers do not come together."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * (0.5 + random_share() / 2)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@contextmanager
def _repeatable(source: BinaryIO) -> Iterator[BinaryIO]:
    """`source`, or a copy of it if it can be read only once, as what is encrypted on its way. In a file: it may be large."""
    if source.seekable():
        yield source
        return
    # what is left in its buffer is written by `seek`, or by closing it after an error
    with temporary(), tempfile.TemporaryFile(prefix="freezeframe-") as file:
        copy = cast("BinaryIO", file)  # the cast leaves out what only the stubs know
        while piece := source.read(_PIECE_BYTES):
            copy.write(piece)
        copy.seek(0)
        yield copy


class Retrying:
    """`store`, with patience. Any thread may call; each call has its own patience."""

    def __init__(
        self,
        store: Store,
        patience_s: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock

    @property
    def address(self) -> str:
        return self._store.address

    def put(self, name: str, source: BinaryIO) -> None:
        with _repeatable(source) as again:
            start = again.tell()

            def attempt() -> None:
                again.seek(start)
                self._store.put(name, again)

            self._tried(attempt)

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        self._tried(lambda: self._store.put_many(objects))

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

        self._tried(attempt)

    def settle(self, folders: Iterable[str]) -> None:
        wanted = list(folders)
        self._tried(lambda: self._store.settle(wanted))

    def get(self, name: str) -> bytes:
        return self._tried(lambda: self._store.get(name))

    def open(self, name: str) -> BinaryIO:
        return self._tried(lambda: self._store.open(name))

    def exists(self, name: str) -> bool:
        return self._tried(lambda: self._store.exists(name))

    def size(self, name: str) -> int:
        return self._tried(lambda: self._store.size(name))

    def names(self, folder: str) -> Iterator[str]:
        """The whole listing is read before the first name is given: a second try must not give names twice."""
        return iter(self._tried(lambda: list(self._store.names(folder))))

    def entries(self, folder: str) -> Iterator[Entry]:
        """As `names`."""
        return iter(self._tried(lambda: list(self._store.entries(folder))))

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

        self._tried(attempt)

    def delete(self, name: str) -> None:
        self._tried(lambda: self._store.delete(name))

    def drop_cached(self, name: str) -> None:
        self._store.drop_cached(name)

    def check_writable(self) -> None:
        self._tried(self._store.check_writable)

    def free_bytes(self) -> int | None:
        return self._tried(self._store.free_bytes)

    def _tried(self, attempt: Callable[[], ResultT]) -> ResultT:
        began = self._clock()
        for pause_s in pauses():
            try:
                return attempt()
            except RepositoryError as error:
                if not error.transient or self._clock() - began + pause_s > self._patience_s:
                    raise
            self._sleep(pause_s)
        raise AssertionError  # pauses() does not end
