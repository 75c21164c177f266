"""The boot of this host: monotonic clocks are one clock only within one boot."""

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def now_s() -> float:
    """Return the guard's clock: it goes on while the host sleeps, and is the same clock for the next guard of this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
