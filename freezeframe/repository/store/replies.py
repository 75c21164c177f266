"""Recognise success where the reply to a call was lost.

    client        RENAME a ─▶ b ······ the server restarts ······ RENAME a ─▶ b (sent again)
    server        done, reply lost                                ENOENT: a is not there

An NFS client sends a request again if it did not get the reply. A server that has restarted meanwhile does not remember the
first one, so it answers the second RENAME or REMOVE with ENOENT and the second LINK or MKDIR with EEXIST. Such an answer is
checked: the call has succeeded if the target is the same file as the source. [open(2), O_EXCL, for a link]
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freezeframe.repository.store.filesystem import Filesystem, StrPath


def rename(files: Filesystem, source: StrPath, target: StrPath, moved: os.stat_result) -> None:
    """Rename a file, of which `moved` was the status before. Raises OSError."""
    try:
        files.rename(source, target)
    except FileNotFoundError:
        if not _is_at(target, moved):
            raise


def link(files: Filesystem, source: StrPath, target: StrPath) -> None:
    """Give a file a second name. Raises FileExistsError if that is another file's, and OSError."""
    try:
        files.link(source, target)
    except FileExistsError:
        if not _is_at(target, os.lstat(source)):
            raise


def unlink(files: Filesystem, path: StrPath) -> None:
    """Take a name away; one that is gone already is no error. Raises OSError."""
    with suppress(FileNotFoundError):
        files.unlink(path)


def _is_at(path: StrPath, file: os.stat_result) -> bool:
    """Return True if `path` names that file."""
    try:
        return os.path.samestat(os.lstat(path), file)
    except FileNotFoundError:
        return False
