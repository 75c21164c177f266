"""Read many objects, several at once, and give them in their order: in object storage each costs a round trip of its own.

    objects   a  b  c  d  e  f  g  h
    given     a  b
    reading         └──┴──┴──┘              at most `AT_ONCE`, and `BYTES_AT_ONCE` if there is more than one

A consumer that stops early leaves no more than that unread.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

#: Objects that are read at once: 5,000 manifests at 30 ms each take 4.7 s, and 150 s one after another.
AT_ONCE: Final = 32
#: What they may have together: a manifest may have 256 MiB, and all of what is read is in memory.
BYTES_AT_ONCE: Final = 64 << 20


def read_ahead(
    items: Iterable[ItemT], read: Callable[[ItemT], ResultT], size_of: Callable[[ItemT], int] = lambda _: 0
) -> Generator[ResultT, None, None]:
    """Yield what `read` returns for each item, in their order. Raises what `read` raises, when its turn comes.

    `read` is called in threads. What is still being read when the consumer stops is not waited for.
    """
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read")
    rest = deque(items)
    reading: deque[tuple[int, Future[ResultT]]] = deque()
    bytes_read = 0
    try:
        while rest or reading:
            while rest and _has_room(len(reading), bytes_read + size_of(rest[0])):
                item = rest.popleft()
                reading.append((size_of(item), pool.submit(read, item)))
                bytes_read += size_of(item)
            size, future = reading.popleft()
            result = future.result()
            bytes_read -= size
            yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _has_room(reading: int, bytes_then: int) -> bool:
    return reading == 0 or (reading < AT_ONCE and bytes_then <= BYTES_AT_ONCE)
