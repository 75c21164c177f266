"""The versions of libvirt and QEMU on this host, asked seldom and within a bound.

libvirt reads QEMU's version from its cache of QEMU's abilities. Where it finds the cache outdated it starts a QEMU to fill it
anew, and waits for that QEMU without a time limit, with the cache locked. [qemu_capabilities.c virQEMUCapsCacheLookup,
qemu_process.c qemuProcessQMPStart] Seen with libvirt 9.0: asked every two seconds, one such QEMU did not answer. The call never
returned, and a host whose guests ran well counted as down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from workers.host import Host
from workers.host_calls import LibvirtHangsError, answered

log = structlog.get_logger("inventory")

#: Seconds until the versions are asked for again: they change when packages are upgraded.
KEPT_S: Final = 600.0
#: Seconds for the answer: two QEMUs are started for it on a host that is busy.
PATIENCE_S: Final = 20.0
UNKNOWN: Final = "unknown"


class Versions:
    """The last versions that libvirt told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known = (UNKNOWN, UNKNOWN)
        self._due_s: float | None = None

    def of(self, host: Host) -> tuple[str, str]:
        """Return the versions of libvirt and QEMU; the last known ones while libvirt does not answer.

        Raises HypervisorError if libvirt refuses or is away.
        """
        if self._due_s is None or self._clock() >= self._due_s:
            try:
                self._known = answered(host, "asking for versions", PATIENCE_S, host.hypervisor.versions)
            except LibvirtHangsError as error:
                log.warning("versions are not known", why=error.message)
            self._due_s = self._clock() + KEPT_S
        return self._known
