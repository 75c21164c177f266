"""The listing of a directory: files, links to files, and what has an object's name though it is neither (`strays.py`)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from freezeframe.repository.layout import LATE_FOLDERS, is_condemned_folder, is_object, key_of
from freezeframe.repository.store import strays
from freezeframe.repository.store.fault import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def listed(root: Path, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield each object of a folder of the repository at `root`. Raises RepositoryNotReadable.

    A stray is yielded too where all that is listed is read, which tells of it. Where a name is enough, for chunks and indexes,
    ObjectIsNoFile is raised after all others.
    """
    path, found = root / folder, list[str]()
    if _lacks(root, folder):
        return
    with reading(path), _scanned(root, folder) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_file(follow_symlinks=False):
                yield name, entry
            elif is_object(name) and os.path.lexists(entry.path):
                if key_of(name) is None or strays.leads_to_file(entry):
                    yield name, entry
                else:
                    found.append(entry.name)
    if found:
        raise strays.no_files(path, found)


def _lacks(root: Path, folder: str) -> bool:
    """Return True for a folder that no writer has needed yet in a repository from before there was such a folder."""
    return folder in LATE_FOLDERS and not os.path.lexists(root / folder) and root.is_dir()


@contextmanager
def _scanned(root: Path, folder: str) -> Iterator[Iterable[os.DirEntry[str]]]:
    """Give what is in a folder. One of what is condemned is empty if it is not there."""
    try:
        entries = os.scandir(root / folder)
    except FileNotFoundError:
        if not is_condemned_folder(folder):
            raise
        strays.check_absent(root, root / folder)
        yield ()
        return
    with entries:
        yield entries
