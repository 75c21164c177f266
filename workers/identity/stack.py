"""Block devices that lie on each other, as this host's kernel tells.

    sda ┬ sda1
        └ sda2 ── dm-0 (a logical volume) ── loop0 (over a file in the filesystem on it)
          ─────────▶ above

A device is the same storage, in part, as every device above and below it. Two devices above one are two.
Each is known by its directory in /sys, whose name is the kernel's, and this host's alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def directory_of(device: int, sys: Path) -> Path | None:
    """Return the directory of the device with that number; None for a file system's number that is no device's."""
    found = sys / "dev/block" / f"{os.major(device)}:{os.minor(device)}"
    return found.resolve() if found.exists() else None


def above(directory: Path) -> set[Path]:
    """Return the devices that lie on this one: its partitions, what is mapped upon them, and so on; itself too."""
    return _closure(directory, _directly_above)


def below(directory: Path, sys: Path) -> set[Path]:
    """Return the devices that this one lies on, all the way down."""
    return _closure(directory, lambda one: _directly_below(one, sys)) - {directory}


def loop_file(directory: Path) -> str | None:
    """Return the file behind a loop device; None if it is none."""
    with suppress(OSError):
        return (directory / "loop/backing_file").read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
    return None


def _directly_above(directory: Path) -> Iterator[Path]:
    yield from (entry for entry in entries(directory) if (entry / "partition").exists())
    yield from (entry.resolve() for entry in entries(directory / "holders"))


def _directly_below(directory: Path, sys: Path) -> Iterator[Path]:
    if (directory / "partition").exists():
        yield directory.parent
    yield from (entry.resolve() for entry in entries(directory / "slaves"))
    if (file := loop_file(directory)) is not None:
        with suppress(OSError):  # deleted meanwhile
            if (under := directory_of(Path(file).stat().st_dev, sys)) is not None:
                yield under


def _closure(directory: Path, directly: Callable[[Path], Iterator[Path]]) -> set[Path]:
    found, todo = {directory}, [directory]
    while todo:
        more = set(directly(todo.pop())) - found
        found |= more
        todo += more
    return found


def entries(directory: Path) -> list[Path]:
    """Return what is in a directory of /sys; nothing if it is not there."""
    with suppress(OSError):
        return list(directory.iterdir())
    return []
