"""Progress: the document that lets an interrupted restore of a disk go on. JSON, beside where the disk's image is or would be.

    {"format": 1, "index": "…", "layout": "qcow2", "mark_bytes": 268435456, "place": "inode 4711", "size_bytes": 1073741824}

`place` says which file, device or export it speaks of; `layout` how the disk's bytes are in there. Each version is durable
before the next is begun, and is written only after what it tells of was synced.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from pydantic import NonNegativeInt, PositiveInt, ValidationError

from freezeframe.contract.message import Digest, Shape
from workers.durable import sync_directory
from workers.restore.partial import writing

SUFFIX: Final = ".progress"
NEW: Final = ".new"

#: Such a document has 250 bytes; of a longer one no more is read.
_MOST_BYTES: Final = 16 << 10


class Subject(Shape):
    """Which bytes are restored, and to where. What differs in any of it has nothing to resume."""

    index: Digest
    size_bytes: PositiveInt
    layout: str
    place: str


class _Document(Subject):
    format: Literal[1] = 1
    mark_bytes: NonNegativeInt


class Progress:
    """The progress document at `path`. Raises TargetFullError, TargetNotWritableError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(path.name + NEW)  # a fixed name: what a crash leaves is cleared by the next

    def mark(self, subject: Subject) -> int:
        """How far `subject` has come; 0 if nothing is known of it, also if the document cannot be read."""
        found = self._read()
        if found is None or Subject(**found.model_dump(include=set(Subject.model_fields))) != subject:
            return 0
        return found.mark_bytes if found.mark_bytes <= subject.size_bytes else 0

    def seen(self, index: str) -> int:
        """How far the disk with that index has come, by the document alone: whether it counts is seen when it is opened."""
        found = self._read()
        return found.mark_bytes if found is not None and found.index == index else 0

    def advance(self, subject: Subject, mark_bytes: int) -> None:
        """Durable when this returns."""
        document = _Document(**subject.model_dump(), mark_bytes=mark_bytes)
        with writing(self.path):
            with self._new.open("w", encoding="utf-8") as file:
                file.write(document.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._new.rename(self.path)
            sync_directory(self.path.parent)

    def remove(self) -> None:
        """Durably gone when this returns."""
        with writing(self.path):
            for path in (self._new, self.path):
                if path.is_symlink() or path.exists():
                    path.unlink()
                    sync_directory(path.parent)

    def _read(self) -> _Document | None:
        try:
            with self.path.open("rb") as file:
                return _Document.model_validate_json(file.read(_MOST_BYTES))
        except (OSError, ValidationError):
            return None
