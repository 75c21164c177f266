"""The directory for temporary files: the one place that decides which.

    FREEZEFRAME_TMP_DIR ─▶ TMPDIR ─▶ /var/tmp, if this user can write to it ─▶ what Python's tempfile takes
    (or tmp_dir in the file)

/tmp is memory on Debian 13, and a disk of 1 TiB has tables of 256 MiB. Sockets are no such files: their paths must be short.
"""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path

from freezeframe.settings import CONFIG_ENV, TemporarySettings, load

#: Kept over a restart and never memory, by the Filesystem Hierarchy Standard.
LASTING = Path("/var/tmp")  # noqa: S108  each file in it is made with a name of its own, or with none
_VARIABLES = ("FREEZEFRAME_TMP_DIR", "TMPDIR", CONFIG_ENV)


def temporary_directory() -> Path:
    """Return the directory for temporary files. Raises SettingsError.

    The settings file is read once a process: a transfer of hours must not fail because somebody is at work on it.
    """
    return _directory(*(os.environ.get(name) for name in _VARIABLES))


@lru_cache
def _directory(_setting: str | None, tmpdir: str | None, _config: str | None) -> Path:
    configured = load(TemporarySettings).tmp_dir
    if configured is not None:
        return configured
    if tmpdir:
        return Path(tmpdir).absolute()
    if os.access(LASTING, os.W_OK | os.X_OK):
        return LASTING
    return Path(tempfile.gettempdir())
