"""Backups that QEMU runs and libvirt has lost.

virDomainBackupBegin writes to libvirt's state on disk that a backup job is there, talks to QEMU, and only then writes what it
is about. [qemu_backup.c: virDomainObjBeginAsyncJob saves, then qemuBackupDiskStarted] A libvirtd that is killed in between
comes back with a job of which it knows nothing:

    asked for           libvirt answers, 9.0 seen, 11.3 has the same code
    the job             "backup job data missing"
    the backup          there is none
    to abort the job    success, and does nothing [qemuBackupJobCancelBlockjobs]
    any other job       it waits 30 s and fails: also a start of the guest once it was off [qemuProcessStop keeps the job]

The job itself goes away only when libvirtd is started while the guest is off. QEMU can be told to end its part at once, and
must be: until then it goes on copying what the guest overwrites to scratch files, and when those are full the guest suffers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import structlog

from workers.hypervisor import backup
from workers.hypervisor.bitmaps import is_ours
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError

log = structlog.get_logger("lost")

Node = Mapping[str, Any]


def is_lost(domain: Domain) -> bool:
    """Whether libvirt has a backup job on this guest of which it knows nothing. Raises HypervisorError if it does not say."""
    try:
        domain.job()
    except HypervisorError as error:
        if error.libvirt_code != libvirt.VIR_ERR_INTERNAL_ERROR or backup.current_socket(domain) is not None:
            raise
        return True
    return False


def end(domain: Domain, scratch: Collection[Path], checkpoint: str | None) -> None:
    """End in QEMU what a lost backup of ours has left there: jobs, NBD server, scratch nodes and bitmaps; twice is once.

    Ours it is if QEMU has our scratch files open; while libvirt has the lost job nobody can begin another backup.
    """
    nodes = scratch_nodes(domain.monitor("query-named-block-nodes", flat=True), scratch)
    if nodes:
        log.warning("ending a backup that libvirt has lost", guest=domain.uuid)
        _end_jobs(domain)
        with suppress(HypervisorError):  # it was not begun yet, or is over
            domain.monitor("nbd-server-stop")
        for node in nodes:
            domain.monitor("blockdev-del", node_name=node)
    elif _backup_jobs(domain):
        return  # another's
    names = {backup.bitmap_name(disk.target) for disk in domain.disks()}
    remove_bitmaps(domain, names | ({checkpoint} if checkpoint else set()))


def _end_jobs(domain: Domain) -> None:
    """Cancel all backup jobs, and dismiss them when they have ended: libvirt's do not go by themselves."""
    for job in _backup_jobs(domain):
        if job["status"] != "concluded":
            domain.monitor("job-cancel", id=job["id"])
    told = time.monotonic()
    while jobs := _backup_jobs(domain):
        for job in jobs:
            if job["status"] == "concluded":
                domain.monitor("job-dismiss", id=job["id"])
        if time.monotonic() - told > backup.END_S:
            raise HypervisorError(f"The lost backup of {domain} has not ended within {backup.END_S:g} s.")
        time.sleep(backup.LOOK_S)


def _backup_jobs(domain: Domain) -> list[Mapping[str, Any]]:
    return [job for job in domain.monitor("query-jobs") if job["type"] == "backup"]


def remove_bitmaps(domain: Domain, names: Collection[str]) -> None:
    """Remove the bitmaps with these names, of whichever disk."""
    for node, name in bitmaps(domain.monitor("query-named-block-nodes", flat=True), names):
        domain.monitor("block-dirty-bitmap-remove", node=node, name=name)


def own_bitmaps(domain: Domain) -> list[tuple[str, str]]:
    """Return (node, bitmap) of each bitmap that has a name of ours, in a running QEMU."""
    nodes = domain.monitor("query-named-block-nodes", flat=True)
    return [(node, name) for node, name in _all_bitmaps(nodes) if is_ours(name)]


def scratch_nodes(nodes: Iterable[Node], scratch: Collection[Path]) -> list[str]:
    """The nodes of scratch files, in an order in which they can be deleted: a format before its file. Pure."""
    found = [node for node in nodes if _file(node) in {str(path) for path in scratch}]
    return [node["node-name"] for node in sorted(found, key=lambda node: node["drv"] == "file")]


def bitmaps(nodes: Iterable[Node], names: Collection[str]) -> list[tuple[str, str]]:
    """(node, bitmap) of each bitmap that has one of the names. Pure."""
    return [(node, name) for node, name in _all_bitmaps(nodes) if name in names]


def _all_bitmaps(nodes: Iterable[Node]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        for bitmap in node.get("dirty-bitmaps", ()):
            if "name" in bitmap:
                yield node["node-name"], bitmap["name"]


def _file(node: Node) -> str | None:
    """A node's own file. QEMU tells it as a path, or as JSON where a path does not say all."""
    text = str(node.get("file", ""))
    if not text.startswith("json:"):
        return text
    told = json.loads(text.removeprefix("json:"))
    while isinstance(told.get("file"), dict):
        told = told["file"]
    name: str | None = told.get("filename")
    return name
