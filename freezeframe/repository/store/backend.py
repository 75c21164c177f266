"""The promises of every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from typing_extensions import Buffer

#: Where a move is a copy and a delete: seconds after the copy began from which the delete is not sent any more. Far less than
#: the least grace of garbage collection, whose argument rests on that; far more than a copy of 16 MiB takes.
MOVE_WINDOW_S: Final = 60.0


def always() -> None:
    """Allow any move."""


class Traffic(NamedTuple):
    """The requests that a store takes at once."""

    at_once: int  # requests under way, for one disk, with which it is as fast as it can be
    remote: bool  # each request takes the time to a server and back; else a look takes next to none


class Entry(NamedTuple):
    """An object in a listing."""

    name: str
    size: int  # bytes
    modified: datetime  # the last change of its bytes, by the store's clock, in UTC


class Store(Protocol):
    """A place that keeps objects. Every method may be called by many threads at once.

    Errors: `RepositoryFull` and `RepositoryNotWritable` from what writes, `RepositoryNotReadable` from what reads,
    `ObjectNotFound` where a name is asked for that is not there.

    Order, for whoever writes: an object may be named to another process once it is *settled*. What `put` and
    `put_if_absent` return from is settled. What `put_many` has written is not, and what `exists` merely sees may be
    another writer's that is not, so `settle` their folders before anything durable refers to them.
    """

    @property
    def address(self) -> str:
        """Where this store is, as a user would write it."""

    @property
    def traffic(self) -> Traffic:
        """Return the requests that it takes at once."""

    def put(self, name: str, source: BinaryIO) -> None:
        """Store what `source` gives from its place on, read in pieces. Settled when this returns; never visible in part.

        `source` is seekable: a store may read it again from that place on.
        """

    def put_many(self, objects: Sequence[tuple[str, Buffer]]) -> None:
        """Store several small objects with distinct names, sharing the cost of making them durable.

        Their bytes are durable and they are visible when this returns; `settle` their folders before they are referred to. On
        an error any of them may be visible, but whole. The buffers are the caller's again when this returns.
        """

    def put_if_absent(self, name: str, data: Buffer) -> None:
        """As `put`, but raises AlreadyExists, and changes nothing, if the name is taken. Of many callers one succeeds."""

    def settle(self, folders: Iterable[str]) -> None:
        """Settle every object that was visible in these folders before the call, whoever wrote it.

        What was deleted there, or moved away, stays so too.
        """

    def get(self, name: str) -> bytes:
        """The object. Raises ObjectDamaged for one that is longer than `layout.object_bytes_max`, before it is in memory."""

    def open(self, name: str) -> BinaryIO:
        """The object as a stream, for what may be large. The caller closes it."""

    def exists(self, name: str) -> bool:
        """Return True if the object is visible. Raises ObjectIsNoFile for what has its name and is none."""

    def size(self, name: str) -> int:
        """In bytes."""

    def modified(self, name: str) -> datetime:
        """Return the time of the last change of its bytes, by the store's clock, in UTC. Raises ObjectNotFound."""

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of the objects directly in a folder, in no order. An error is raised, in the middle too, never a
        shorter list.

        What has an object's name and is no file is among them. For chunks and indexes ObjectIsNoFile is raised, at the end.
        """

    def entries(self, folder: str) -> Iterator[Entry]:
        """As `names`, with sizes and times. A folder of what is condemned is empty if it is not there."""

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        """Give an object another name, in the place of what has it. Raises ObjectNotFound if it is not there.

        Whoever looks at `name` and then at `to` finds it, at any moment and after any crash; after one, or an error, it may be
        under both. Settle both folders to make it durable. `allowed` is called right before the move is made, each time that
        it is tried; what it raises ends the move, before anything was changed.
        """

    def delete(self, name: str) -> None:
        """Take the object away. One that is gone already is no error. A power cut may bring it back until `settle`."""

    def drop_cached(self, name: str) -> None:
        """Let the next read of the object come from the storage, as far as this machine can tell it to. A hint: never fails."""

    def check_writable(self) -> None:
        """Try everything that writing needs and leave nothing.

        Raises RepositoryNotWritable, RepositoryFull, and RepositoryUnsupported for a place that cannot keep these promises.
        """

    def free_bytes(self) -> int | None:
        """Return the bytes that a writer may still use; None if the store cannot tell."""
