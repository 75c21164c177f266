"""Where Redis is, for every verb that is typed: the address of the settings; else that of the private Redis of a
`freezeframe up` on this machine; else the default.

`up` leaves the address, which has the password in it, in a file of its run directory that only its own user can read. A file
that cannot be read is not absent: the default would be another Redis. Services (`worker`, `orchestrator`) go by the settings,
which `up` gives its own in their environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from freezeframe.client import UnreachableError
from freezeframe.settings import BusSettings, HostSettings, load


class AddressUnreadableError(UnreachableError):
    """The file with the address of the private Redis is there, or may be, and cannot be read."""

    code = "redis-address"
    advice = (
        "Run this as the user who runs `freezeframe up`, mostly root (`sudo`). If another Redis is used here, let "
        "FREEZEFRAME_REDIS_URL name it."
    )


_DAMAGED: Final = "Start `freezeframe up` again, which writes the file, or let FREEZEFRAME_REDIS_URL name the Redis."


def address_file() -> Path:
    """The file that says where the private Redis of `freezeframe up` is."""
    return load(HostSettings).run_dir / "redis-url"


def bus_settings(timeout_s: float | None = None) -> BusSettings:
    """Return how to reach Redis; with `timeout_s`, with more haste than usual. Raises SettingsError, AddressUnreadableError."""
    settings = private_settings() or load(BusSettings)
    return settings if timeout_s is None else settings.model_copy(update={"redis_timeout_s": timeout_s})


def private_settings() -> BusSettings | None:
    """Return how to reach the private Redis of `freezeframe up`; None if the settings name a Redis, or no `up` has one.

    Raises SettingsError, AddressUnreadableError.
    """
    settings = load(BusSettings)
    if "redis_url" in settings.model_fields_set:
        return None
    file = address_file()
    try:
        url = file.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AddressUnreadableError(
            f"{file}, where `freezeframe up` tells its Redis, cannot be read: {why}."
        ) from error
    try:
        return BusSettings.model_validate({**settings.model_dump(), "redis_url": url})
    except ValidationError as error:
        raise AddressUnreadableError(
            f"{file}, where `freezeframe up` tells its Redis, has no address in it.", advice=_DAMAGED
        ) from error
