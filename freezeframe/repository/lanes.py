"""Lanes: how many threads ask a store for the chunks of one disk, or of one verification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from freezeframe.repository.store.backend import Traffic

#: What may be on its way together, in bytes of the disk: 8 chunks of 4 MiB, 64 of 512 KiB. Each thread has a chunk twice for a
#: moment: as it is stored, and unpacked.
IN_FLIGHT_BYTES: Final = 32 << 20

#: At least so many: decompression and SHA-256 run at 1 GB/s a core or so, and a device needs several requests to be busy.
LEAST: Final = 4


def lanes(traffic: Traffic, chunk_bytes: int) -> int:
    """Return how many chunks to read at once. Pure."""
    return max(LEAST, min(traffic.at_once, IN_FLIGHT_BYTES // chunk_bytes))
