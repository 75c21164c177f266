"""Checksums of files, and the list of them that `sha256sum -c` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def sha256_of(path: Path) -> str:
    """In hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(sums: Mapping[str, str]) -> str:
    """Paths with their sums as lines: a backslash before a line says that those in the name are doubled. [sha256sum(1)]"""
    return "".join(_line(path, digest) for path, digest in sorted(sums.items()))


def _line(path: str, digest: str) -> str:
    if "\\" in path:
        return f"\\{digest}  " + path.replace("\\", "\\\\") + "\n"
    return f"{digest}  {path}\n"
