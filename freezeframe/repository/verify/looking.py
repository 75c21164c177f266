"""Looking at chunks and indexes: once, and what is wrong once more, past this machine's cache.

In object storage 1,000 names are listed in the time of one question. So where only presence is asked for, folders are listed.
What is not listed there is looked for by itself.

first look   second look    then
sound                       sound
wrong        sound          sound: the read was bad, not the object
wrong        wrong          a fault
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from freezeframe.repository.chunk import HEADER_BYTES, unpack, unseal
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged, NewerFormat, ObjectNotFound, RepositoryNotReadable
from freezeframe.repository.index import load_index
from freezeframe.repository.lanes import lanes
from freezeframe.repository.layout import folder_of
from freezeframe.repository.store.fault import of_the_medium
from freezeframe.repository.verify.report import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from freezeframe.repository.index import Index
    from freezeframe.repository.objects import Objects

_WINDOW: Final = 128  # chunks on their way at once: more than there are threads, so that none waits for a slow one

#: Names that a folder may have for each chunk that is looked for in it, before asking is sooner: a page of a listing takes as
#: long as a question, and 64 of these are asked at once.
_NAMES_A_CHUNK: Final = 8
_LISTINGS_AT_ONCE: Final = 8
_LISTED_FOR: Final = 1 << 17  # chunks, 20 MiB of memory


@dataclass(frozen=True)
class Fault:
    """What is wrong with an object. `in_bytes`: it is there and its bytes are wrong, so it may be set aside; `missing`: it is
    not there; `newer`: a newer version has written it, and nothing is wrong with it; none of them: nobody can say, because it
    cannot be read.
    """

    reason: str
    in_bytes: bool = False
    missing: bool = False
    newer: bool = False

    @property
    def certain(self) -> bool:
        return self.in_bytes or self.missing


@dataclass(frozen=True)
class Look:
    digest: bytes
    stored_bytes: int = 0  # read
    fault: Fault | None = None
    bad_read: bool = False


def look_at_all(objects: Objects, tier: Tier, digests: Iterable[bytes], chunk_bytes: int) -> Iterator[Look]:
    """Look at chunks in parallel, and give the results in order; those of one folder should follow each other.

    `chunk_bytes`: of most of them. Raises RepositoryNotReadable if the store is away.
    """
    traffic = objects.store.traffic
    present = tier is Tier.PRESENT
    threads = traffic.at_once if present else lanes(traffic, chunk_bytes)
    window: deque[Future[Look] | Look] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        try:
            for digest, is_listed in (
                _with_listed(objects, digests) if present and traffic.remote else _unlisted(digests)
            ):
                if len(window) == _WINDOW:
                    yield _result(window.popleft())
                window.append(Look(digest) if is_listed else pool.submit(look, objects, tier, digest))
            while window:
                yield _result(window.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _result(one: Future[Look] | Look) -> Look:
    return one if isinstance(one, Look) else one.result()


def _unlisted(digests: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    return ((digest, False) for digest in digests)


def _with_listed(objects: Objects, digests: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each chunk, and whether a listing has shown it."""
    rest = iter(digests)
    while batch := list(islice(rest, _LISTED_FOR)):
        listed = _listed(objects, batch)
        yield from ((digest, digest in listed) for digest in batch)


def _listed(objects: Objects, digests: Iterable[bytes]) -> set[bytes]:
    """Return those of the chunks that are present by the listings of their folders, as far as these are worth reading."""
    wanted: dict[str, dict[str, bytes]] = {}
    for digest in digests:
        name = objects.protection.locate(digest)
        wanted.setdefault(folder_of(name), {})[name] = digest
    with ThreadPoolExecutor(_LISTINGS_AT_ONCE, thread_name_prefix="list") as pool:
        found = pool.map(lambda one: _listed_in(objects, *one), wanted.items())
        return {digest for digests in found for digest in digests}


def _listed_in(objects: Objects, folder: str, names: dict[str, bytes]) -> list[bytes]:
    least = objects.protection.stored_bytes(HEADER_BYTES)
    entries = islice(objects.store.entries(folder), _NAMES_A_CHUNK * len(names))
    return [names[one.name] for one in entries if one.name in names and one.size > least]


def look(objects: Objects, tier: Tier, digest: bytes) -> Look:
    """One chunk, twice if need be. Raises RepositoryNotReadable if the store is away."""
    first = _look_once(objects, tier, digest)
    if first.fault is None:
        return first
    objects.store.drop_cached(objects.protection.locate(digest))
    again = _look_once(objects, tier, digest)
    stored_bytes = first.stored_bytes + again.stored_bytes
    return Look(digest, stored_bytes, again.fault, bad_read=again.fault is None)


def _look_once(objects: Objects, tier: Tier, digest: bytes) -> Look:
    stored_bytes = 0

    def read() -> None:
        nonlocal stored_bytes
        if tier is Tier.PRESENT:
            _check_length(objects, digest)
            return
        envelope = objects.envelope(digest)
        stored_bytes = objects.protection.stored_bytes(len(envelope))
        if tier is Tier.DECODABLE:
            unpack(envelope, digest.hex())
        else:
            unseal(envelope, digest)

    fault = _fault_of(read)
    return Look(digest, stored_bytes, fault)


def _check_length(objects: Objects, digest: bytes) -> None:
    try:
        stored_bytes = objects.chunk_size(digest)
    except ObjectNotFound as error:
        raise ChunkDamaged(f"Chunk {digest.hex()} is missing.") from error
    if stored_bytes <= objects.protection.stored_bytes(HEADER_BYTES):
        raise ChunkDamaged(f"Chunk {digest.hex()} is cut short.")


def look_at_index(objects: Objects, digest: bytes) -> Index | Fault:
    """An index, to be closed after use, or what is wrong with it both times. Raises RepositoryNotReadable."""
    loaded: list[Index] = []
    for _ in range(2):
        fault = _fault_of(lambda: loaded.append(load_index(objects, digest)))
        if fault is None:
            return loaded[0]
        objects.store.drop_cached(objects.protection.index_name(digest))
    assert fault is not None  # noqa: S101  it has been looked at
    return fault


def _fault_of(read: Callable[[], None]) -> Fault | None:
    """What reading finds wrong. Raises RepositoryNotReadable if the store is away: that is no word about any object."""
    try:
        read()
    except (ChunkDamaged, IndexDamaged) as error:
        missing = isinstance(error.__cause__, ObjectNotFound)
        return Fault(error.message, in_bytes=not missing, missing=missing)
    except NewerFormat as error:
        return Fault(error.message, newer=True)
    except RepositoryNotReadable as error:
        if error.transient:
            raise
        return Fault(error.message, in_bytes=of_the_medium(error))
    return None
