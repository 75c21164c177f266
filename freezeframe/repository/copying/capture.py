"""One capture on its way: its disks' chunks, then their indexes, then its manifest.

Of an incremental whose parent is in the copy only slots that differ from the parent's are looked at, as a writer does. What it
inherits may be missing all the same, or set aside as damaged: that is looked for, and is copied again. Where one object of the
copy cannot be read, less is taken for there.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from freezeframe.repository.aside import stems_aside
from freezeframe.repository.copying.chunks import CaptureError, ChunkCopier, read_alone
from freezeframe.repository.errors import (
    IndexDamaged,
    ManifestUnreadable,
    NewerFormat,
    ObjectNotFound,
    RepositoryNotReadable,
)
from freezeframe.repository.index import Index, load_index
from freezeframe.repository.inherited import missing_chunks
from freezeframe.repository.layout import digest_of
from freezeframe.repository.manifest import parse_manifest
from freezeframe.repository.referenced import new_digests
from freezeframe.repository.refusal import check_alone
from freezeframe.repository.table import digests_in
from freezeframe.repository.temporary import check_written, temporary, temporary_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from freezeframe.repository.manifest import DiskCapture, Manifest
    from freezeframe.repository.repository import Repository


class CaptureCopier:
    """Copies captures of `source`, one after another."""

    def __init__(self, source: Repository, copy: Repository, threads: int | None = None) -> None:
        self._source = source
        self._copy = copy
        self.chunks = ChunkCopier(source, copy, threads)

    def manifest(self, capture_id: str) -> tuple[Manifest, bytes] | None:
        """Return a manifest of the source and its bytes; None if it is gone. Raises CaptureError."""
        objects = self._source.objects
        try:
            data = read_alone(self._source, lambda: objects.manifest(capture_id))
            place = f"{self._source.address}/{objects.protection.manifest_name(capture_id)}"
            return parse_manifest(data, capture_id, place), data
        except ObjectNotFound:
            return None
        except ManifestUnreadable as error:
            raise CaptureError(error, self._source.address) from error

    def copy(self, manifest: Manifest, data: bytes, session_id: str, tell: Callable[[int], None]) -> None:
        """Copy a capture in the session of this copy. `tell`: of its disks' bytes that were looked at.

        Raises CaptureError if an object of it cannot be copied, or is in the way; then the capture is not in the copy.
        """
        done = 0
        for _, disk in manifest.disks():
            with self._index(disk) as (index, file):
                self._copy_chunks(index, disk, _after(done, tell))
                self._put_index(disk, file)
            done += disk.size_bytes
            tell(done)
        read_alone(self._copy, lambda: self._copy.adopt(manifest, data, session_id))

    def heal(self, manifest: Manifest, *, missing_too: bool) -> None:
        """Copy what is set aside as damaged in the copy, of a capture that is there. Raises CaptureError.

        `missing_too`: each of its chunks is asked for, as of a capture that is not there.
        """
        for _, disk in manifest.disks():
            with self._index(disk) as (index, file):
                if missing_too:
                    self._send_those(index, lambda _: True)
                self._send_aside(index)
                self._put_index(disk, file)

    def _index(self, disk: DiskCapture) -> _Kept:
        return _Kept(self._source, digest_of(disk.index))

    def _copy_chunks(self, index: Index, disk: DiskCapture, tell: Callable[[int], None]) -> None:
        with ExitStack() as stack:
            parent = self._parent(disk)
            missing: Collection[bytes] = ()
            if parent is not None:
                stack.enter_context(parent)
                missing = self._missing(parent)
            passed = _Passed(index)
            self.chunks.send(
                passed.through(new_digests(index.table, None if parent is None else parent.table)),
                index.header.chunk_bytes,
                lambda: tell(passed.bytes),
            )
            if missing:
                self._send_those(index, lambda digest: digest in missing)
        self._send_aside(index)

    def _parent(self, disk: DiskCapture) -> Index | None:
        """Return the index of the parent, if the copy has its capture: then it has what the parent refers to.

        The capture is looked for now, in the session of this copy: garbage collection keeps it from here on. None also if that
        manifest or that index alone cannot be read there: then each chunk of the disk is asked for.
        """
        if disk.parent_capture_id is None or disk.parent_index is None:
            return None
        try:
            return self._copy.index(disk.parent_index) if self._copy.is_sealed(disk.parent_capture_id) else None
        except (IndexDamaged, NewerFormat):
            return None
        except RepositoryNotReadable as error:
            check_alone(self._copy.store, error)
            return None

    def _missing(self, parent: Index) -> frozenset[bytes]:
        return read_alone(self._copy, lambda: missing_chunks(self._copy.objects, parent))

    def _send_aside(self, index: Index) -> None:
        """Copy what a verification of the copy has set aside. To be called when all else is there."""
        aside = stems_aside(self._copy.objects)
        if aside:
            locate = self._copy.objects.protection.locate
            self._send_those(index, lambda digest: locate(digest).rpartition("/")[2] in aside)

    def _send_those(self, index: Index, wanted: Callable[[bytes], bool]) -> None:
        digests = (one for piece in index.table.pieces() for one in digests_in(piece) if wanted(one))
        self.chunks.send(digests, index.header.chunk_bytes, lambda: None)

    def _put_index(self, disk: DiskCapture, file: BinaryIO) -> None:
        """Put an index that is not there, or that cannot be read there: as a capture's writer does, in its place."""
        if self._has_index(disk):
            return
        objects = self._copy.objects
        name = objects.protection.index_name(digest_of(disk.index))
        check_written(file)
        with temporary():
            file.seek(0)
        objects.store.put(name, objects.protection.protect_stream(name, file))

    def _has_index(self, disk: DiskCapture) -> bool:
        """Return True if the index of a disk is there, and is sound to its end. Raises CaptureError for one that is newer."""
        objects, digest = self._copy.objects.as_verified(), digest_of(disk.index)
        try:
            if not objects.store.exists(objects.protection.index_name(digest)):
                return False
            load_index(objects, digest).close()
        except IndexDamaged:
            return False
        except NewerFormat as error:
            raise CaptureError(error, self._copy.address) from error
        except RepositoryNotReadable as error:
            check_alone(self._copy.store, error)
            return False
        return True


class _Kept:
    """An index of the source, verified, and its file. A context manager. Raises CaptureError."""

    def __init__(self, source: Repository, digest: bytes) -> None:
        self._source = source
        self._digest = digest
        self._stack = ExitStack()

    def __enter__(self) -> tuple[Index, BinaryIO]:
        with self._stack:
            file = self._stack.enter_context(temporary_file())
            index = read_alone(self._source, lambda: load_index(self._source.objects, self._digest, file))
            self._stack.enter_context(index)
            self._stack = self._stack.pop_all()
        return index, file

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _after(before: int, tell: Callable[[int], None]) -> Callable[[int], None]:
    """Return `tell` for a disk before which so many bytes were looked at."""
    return lambda done: tell(before + done)


class _Passed:
    """The bytes of a disk whose slots have been passed, as far as pieces of digests tell."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.bytes = 0

    def through(self, pieces: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
        """Yield each digest of the pieces."""
        chunk_bytes = self._index.header.chunk_bytes
        for piece in pieces:
            for digest in piece:
                self.bytes += chunk_bytes
                yield digest
