"""Where a disk may go other than into a file, as a caller names it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.restore.errors import DeviceUnfitError

#: A guest's name may have colons and `=`, and no slash; a device's path begins with one, an export's URI has one.
_DISK: Final = r"(?P<guest>[^/]+):(?P<target>[a-z][a-z0-9]{1,15})="
_TO_DEVICE: Final = re.compile(_DISK + r"(?P<where>/.+)", re.DOTALL)
_TO_EXPORT: Final = re.compile(_DISK + r"(?P<where>nbds?(\+unix)?://.+)", re.DOTALL)


@dataclass(frozen=True)
class BlockDevicePlace:
    """A block device of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class NbdPlace:
    """An NBD export, by its URI."""

    uri: str

    def __str__(self) -> str:
        return self.uri


#: A place that is written over, rather than a file that is made.
Place = BlockDevicePlace | NbdPlace

#: Guests, by name or UUID, with a disk's target each, and where that disk goes.
Places = dict[tuple[str, str], Place]


def places(devices: Iterable[str], exports: Iterable[str]) -> Places:
    """Return what `GUEST:TARGET=/dev/…` and `GUEST:TARGET=nbd://…` mean.

    Raises DeviceUnfitError for what means nothing, and for one disk or one place that is named twice. Here names are compared;
    `apart.py` compares what they mean.
    """
    found: Places = {}
    for text, device in [*((one, True) for one in devices), *((one, False) for one in exports)]:
        match = (_TO_DEVICE if device else _TO_EXPORT).fullmatch(text)
        if match is None:
            form = "/dev/NAME" if device else "nbd://HOST/NAME"
            raise DeviceUnfitError(
                f"{text!r} does not say which disk goes where.", advice=f"Write GUEST:TARGET={form}."
            )
        key = match["guest"], match["target"]
        place = BlockDevicePlace(Path(match["where"])) if device else NbdPlace(match["where"])
        if key in found:
            raise DeviceUnfitError(f"{text} names its disk for the second time.", advice="Name each disk once.")
        if earlier := [f"{guest}:{target}" for (guest, target), other in found.items() if other == place]:
            raise DeviceUnfitError(
                f"{text} names the place of {earlier[0]}.", advice="Give each disk a place of its own."
            )
        found[key] = place
    return found
