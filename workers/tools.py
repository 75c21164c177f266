"""Programs whose messages are read."""

from __future__ import annotations

import os


def english() -> dict[str, str]:
    """Return an environment in which a program's messages are English, whatever locale the worker has."""
    return {**os.environ, "LC_ALL": "C", "LANGUAGE": ""}
