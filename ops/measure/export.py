"""A backup job that is not ours: begun and ended by bare libvirt calls, for peers and floors to read from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lxml import etree

from ops.lab.guest import Guest


def socket_path(guest: Guest, name: str) -> Path:
    """Return a path in libvirt's directory for this guest: the one place where its QEMU may make a socket."""
    return Path(f"/var/lib/libvirt/qemu/domain-{guest.domain.ID()}-{guest.name[:20]}/{name}.sock")


@contextmanager
def exported(guest: Guest, target: str) -> Iterator[Path]:
    """The guest's disk served over NBD for as long as the block lasts; the socket, as seen from outside the host."""
    inside = socket_path(guest, f"bench-{target}")
    backup = etree.Element("domainbackup", mode="pull")
    etree.SubElement(backup, "server", transport="unix", socket=str(inside))
    disks = etree.SubElement(backup, "disks")
    for disk in etree.fromstring(guest.domain.XMLDesc()).iterfind("devices/disk/target"):
        name = disk.get("dev", "")
        if name != target:
            etree.SubElement(disks, "disk", name=name, backup="no")
            continue
        element = etree.SubElement(disks, "disk", name=name, backup="yes", type="file", exportname=name)
        etree.SubElement(element, "scratch", file=str(guest.folder / "bench-scratch.qcow2"))
    guest.domain.backupBegin(etree.tostring(backup, encoding="unicode"), None)
    try:
        yield guest.host.root / inside.relative_to("/")
    finally:
        guest.domain.abortJob()
