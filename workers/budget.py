"""The budget of a host's data worker: which processors its transfers use, how nice they are, and how they keep memory.

Called once in the worker's own process, before it forks; its children, a transfer each, inherit all of it.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from freezeframe.settings import HostSettings

#: mallopt(3). A transfer allocates and frees buffers of about a chunk all the time. glibc gives such memory back to the
#: kernel at once and takes it anew, page by page: 250,000 page faults for 2.3 GB, about 25,000 with these. What does not
#: compress is packed in half the time then (0.7 and 0.35 ms a MiB).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
#: Above the largest chunk with what stands around it; glibc's own maximum.
_MMAP_BYTES: Final = 32 << 20
#: Twice what the commit queue holds: what was used once is kept, and is bounded by what was used at once.
_KEEP_BYTES: Final = 128 << 20


def keep_to(settings: HostSettings) -> None:
    """Make this process keep to the budget."""
    allowed = sorted(os.sched_getaffinity(0))
    if settings.transfer_processors is not None:
        os.sched_setaffinity(0, allowed[-settings.transfer_processors :])
    if settings.transfer_nice:
        os.nice(settings.transfer_nice)


def keep_memory() -> None:
    """Let this process keep the memory that it frees, for its next chunk. Does nothing where the libc cannot."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
