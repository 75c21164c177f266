"""Strays: what has an object's name in a directory and is no file.

    a link to a file      ─▶ the object: tools that move files elsewhere, or find equal ones, leave such links
    a link to nothing     ─▶ a stray: there is an object, and it cannot be read. It is not absent
    a folder, a FIFO, …   ─▶ a stray

The storage that a link leads to may be away, so a stray stops whatever would delete for lack of it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from freezeframe.repository.errors import ObjectIsNoFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def leads_to_file(entry: os.DirEntry[str]) -> bool:
    """Return True for a link to a file."""
    try:
        return entry.is_file()
    except OSError:
        return False


def size_and_time(entry: os.DirEntry[str]) -> tuple[int, float]:
    """Return the size of what is listed, and its time: of a link and its file the later. Raises OSError."""
    own = entry.stat(follow_symlinks=False)
    if entry.is_symlink() and leads_to_file(entry):
        there = entry.stat()
        return there.st_size, max(own.st_mtime, there.st_mtime)
    return own.st_size, own.st_mtime


def check_file(path: Path | str, mode: int) -> None:
    """Raise ObjectIsNoFile for another mode than a file's."""
    if not stat.S_ISREG(mode):
        raise ObjectIsNoFile(f"{path} is no file.")


def check_absent(root: Path, path: Path | str) -> None:
    """Raise ObjectIsNoFile if `path`, which was not found, is a link to nothing, or lies in a folder that is one."""
    place = str(path)
    while len(place) > len(str(root)):
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            place = os.path.dirname(place)  # noqa: PTH120
            continue
        if stat.S_ISLNK(mode) and not os.path.exists(place):  # noqa: PTH110
            raise ObjectIsNoFile(f"Reading {path} failed: {place} is a link to nothing.")
        return


def no_files(folder: Path, names: Sequence[str]) -> ObjectIsNoFile:
    """Return the error for a folder in which these have the names of objects."""
    others = f", and {len(names) - 1} others in that folder are none either" if len(names) > 1 else ""
    return ObjectIsNoFile(f"{folder / names[0]} is no file, nor a link to one{others}.")


def moved_link(source: Path, target: Path) -> str | None:
    """Return where a link leads once it is moved, if that is no longer as it is written; None for any other."""
    leads = str(source.readlink()) if source.is_symlink() else "/"
    if os.path.isabs(leads):  # noqa: PTH117
        return None
    real, new = os.path.realpath(source.parent), os.path.realpath(target.parent)
    again = os.path.relpath(os.path.join(real, leads), new)  # noqa: PTH118
    return None if again == leads else again
