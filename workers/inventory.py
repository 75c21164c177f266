"""The inventory: every few seconds this host publishes itself and its guests."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import redis
import structlog

from freezeframe import __version__, presence
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.errors import FreezeframeError
from workers.host import Host

log = structlog.get_logger("inventory")


def entry_of(host: Host) -> HostEntry:
    """This host as it is now. Raises HypervisorError."""
    libvirt_version, qemu_version = host.hypervisor.versions()
    guests = [
        GuestEntry(
            guest_uuid=domain.uuid,
            name=domain.name,
            state=domain.state(),
            captured_by=host.claims.holder(domain.uuid),
        )
        for domain in host.hypervisor.domains()
    ]
    return HostEntry(
        host_id=host.host_id,
        at=datetime.now(UTC),
        freezeframe_version=__version__,
        libvirt_version=libvirt_version,
        qemu_version=qemu_version,
        guests=tuple(sorted(guests, key=lambda guest: guest.name)),
        open_captures=tuple(journal.capture_id for journal in host.journal.unended()),
    )


def publish_forever(host: Host, stop: threading.Event) -> None:
    """Publish until told to stop. Trouble is logged and silences the host: it then counts as down, which it is."""
    while not stop.is_set():
        try:
            presence.publish(host.redis, entry_of(host))
        except (FreezeframeError, redis.RedisError) as error:
            log.warning("not published", why=str(error))
        stop.wait(host.settings.inventory_interval_s)
