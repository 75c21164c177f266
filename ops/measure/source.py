"""What contestants read: in the page cache for all of them, so that a device's mood is nobody's."""

from __future__ import annotations

import os
from pathlib import Path

_PIECE = 8 << 20


def warm(source: Path) -> None:
    """Read all of a file, or of the files under a directory, when what others left dirty is written out.

    Right before each use: a kernel that reclaims what nobody touches (DAMON) forgets a file within a minute.
    """
    os.sync()
    for path in [source] if source.is_file() else sorted(one for one in source.rglob("*") if one.is_file()):
        with path.open("rb") as file:
            while file.read(_PIECE):
                pass
