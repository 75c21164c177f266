"""Where Redis is, for the verbs that ask it: what the settings say; else the private one of a `freezeframe up` on this machine.

`up` leaves the address, which has the password in it, in a file of its run directory that only its own user can read.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from freezeframe.settings import BusSettings, HostSettings, load


def address_file() -> Path:
    """The file that says where the private Redis of `freezeframe up` is."""
    return load(HostSettings).run_dir / "redis-url"


def bus_settings(timeout_s: float | None = None) -> BusSettings:
    """How to reach Redis; with `timeout_s`, with more haste than usual. Raises SettingsError."""
    settings = load(BusSettings)
    changes: dict[str, object] = {}
    if "redis_url" not in settings.model_fields_set:
        with contextlib.suppress(OSError):
            changes["redis_url"] = address_file().read_text(encoding="utf-8").strip()
    if timeout_s is not None:
        changes["redis_timeout_s"] = timeout_s
    return BusSettings.model_validate({**settings.model_dump(), **changes}) if changes else settings
