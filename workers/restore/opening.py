"""Opening where a disk goes: anew, or where an interrupted restore of it has come to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from freezeframe.direct import opened_again
from freezeframe.repository import DiskReader, Repository
from freezeframe.repository.errors import RepositoryDamaged
from workers.restore.block_device import BlockDevice, claimed
from workers.restore.descriptor import Descriptor
from workers.restore.destination import Destination
from workers.restore.errors import RestoreError
from workers.restore.image import Image, ImageFormat, Layout, RawLayout
from workers.restore.partial import SUFFIX as PARTIAL_SUFFIX
from workers.restore.partial import PartialFile, writing
from workers.restore.place import BlockDevicePlace, NbdPlace, Place
from workers.restore.progress import Progress, Subject
from workers.restore.qcow2 import Qcow2Layout

#: After these the rest of an image is of no use: it could not be written, or cannot be made whole.
_LOST: Final = (RestoreError, RepositoryDamaged)


class Part(Protocol):
    """What must be known of a disk here."""

    @property
    def index(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def format(self) -> ImageFormat: ...
    @property
    def place(self) -> Place | None: ...
    @property
    def progress(self) -> Progress: ...


def opened(part: Part, reader: DiskReader, *, overwrite: bool) -> AbstractContextManager[Destination]:
    """Where the disk goes. Leaving the block makes it durable, and gives a file its name; with an error a file is left as a
    partial one, if some of it was made durable and the error is nothing but an interruption, else removed.
    """
    match part.place:
        case None:
            return _image(part, reader, overwrite=overwrite)
        case BlockDevicePlace(path):
            return _device(part, reader, path)
        case NbdPlace(uri):
            return _export(part, reader, uri)


def check_place(place: Place, size_bytes: int) -> None:
    """Raises what opening it would raise, and lets go of it again."""
    match place:
        case BlockDevicePlace(path):
            with claimed(path, size_bytes):
                pass
        case NbdPlace(uri):
            # libnbd is the distribution's package: a machine without it can still restore to files and devices
            from workers.restore.nbd_export import connected  # noqa: PLC0415

            with connected(uri, size_bytes):
                pass


@contextmanager
def _image(part: Part, reader: DiskReader, *, overwrite: bool) -> Iterator[Destination]:
    subject = partial(_subject, part, reader, part.format.value)
    layout = _layout(part.format, reader)

    def fits(found: os.stat_result) -> bool:
        return found.st_size == layout.file_bytes and part.progress.mark(subject(f"inode {found.st_ino}")) > 0

    with PartialFile(part.path, overwrite=overwrite, adopt=fits, forget=part.progress.remove) as file:
        own = subject(f"inode {os.fstat(file.fd).st_ino}")
        mark = part.progress.mark(own) if file.adopted else 0
        try:
            with opened_again(file.fd) as direct_fd:
                descriptor = Descriptor(file.fd, file.path, direct_fd)
                image = Image(descriptor, layout, mark, partial(part.progress.advance, own))
                yield image
                image.close()
            file.commit()
        except _LOST:
            part.progress.remove()
            raise
        except BaseException:
            file.stay = part.progress.mark(own) > 0
            raise
    part.progress.remove()


def _layout(image_format: ImageFormat, reader: DiskReader) -> Layout:
    header = reader.header
    if image_format is ImageFormat.RAW:
        return RawLayout(header.size_bytes)
    return Qcow2Layout(header.size_bytes, header.chunk_bytes, (slot for slot, _ in reader.used_slots()))


@contextmanager
def _device(part: Part, reader: DiskReader, path: Path) -> Iterator[Destination]:
    size_bytes = reader.header.size_bytes
    with claimed(path, size_bytes) as fd:
        number = os.fstat(fd).st_rdev
        where = f"device {path} {os.major(number)}:{os.minor(number)}, {os.lseek(fd, 0, os.SEEK_END)} bytes"
        own = _subject(part, reader, "device", where)
        mark = _mark(part.progress, own)
        with opened_again(fd) as direct_fd:
            descriptor = Descriptor(fd, path, direct_fd)
            device = BlockDevice(descriptor, size_bytes, mark, partial(part.progress.advance, own))
            yield device
            device.sync()
    part.progress.remove()


@contextmanager
def _export(part: Part, reader: DiskReader, uri: str) -> Iterator[Destination]:
    from workers.restore.nbd_export import NbdExport, connected  # noqa: PLC0415

    size_bytes = reader.header.size_bytes
    with connected(uri, size_bytes) as handles:
        own = _subject(part, reader, "nbd", f"export {uri}, {handles[0].get_size()} bytes")
        mark = _mark(part.progress, own)
        export = NbdExport(uri, handles, size_bytes, mark, partial(part.progress.advance, own))
        yield export
        export.sync()
    part.progress.remove()


def _mark(progress: Progress, own: Subject) -> int:
    """How far this disk has come there. A document that speaks of another is gone before a byte is written over that one."""
    mark = progress.mark(own)
    if not mark:
        progress.remove()
    return mark


def _subject(part: Part, reader: DiskReader, layout: str, place: str) -> Subject:
    return Subject(index=part.index, size_bytes=reader.header.size_bytes, layout=layout, place=place)


def reopen(repository: Repository, part: Part) -> None:
    """Make a whole image a partial one again, so that the next restore of it reads and compares all that is there: for a
    directory in which nothing has its name for good yet.
    """
    with repository.disk_reader(part.index) as reader:
        left = part.path.with_name(part.path.name + PARTIAL_SUFFIX)
        if not part.path.is_file() or left.exists():
            return
        with writing(part.path):
            part.path.rename(left)
            own = _subject(part, reader, part.format.value, f"inode {left.stat().st_ino}")
        part.progress.advance(own, reader.header.size_bytes)
