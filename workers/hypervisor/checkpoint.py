"""Checkpoints: from when on QEMU records which blocks of a disk change. What increments build upon.

Ours are named `freezeframe.<repository>.<capture>`, so that two repositories keep two lines that do not disturb each other
and everybody else's checkpoints are left alone. Each bitmap records on its own, so deleting one takes nothing from another.
[libvirt qemu_checkpoint.c: qemuCheckpointDiscardDiskBitmaps]

A chain is sound only if each checkpoint from the one built upon up to the newest has its bitmap, recording and not
damaged. libvirt checks that with REDEFINE_VALIDATE, which needs `<domain>` in the XML and a running guest.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree

from workers.hypervisor import bitmaps, lost, volumes
from workers.hypervisor.disk import parse, text
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError, HypervisorUnreachableError, telling

_PREFIX = "freezeframe"


def checkpoint_name(repository_id: str, capture_id: str) -> str:
    return f"{_line(repository_id)}.{capture_id}"


def _line(repository_id: str) -> str:
    return f"{_PREFIX}.{repository_id.replace('-', '')}"


def checkpoint_xml(name: str, targets: Iterable[str], left_out: Iterable[str]) -> str:
    """A checkpoint on `targets`; all other disks are listed as left out, since the default is to take them in. Pure."""
    root = etree.Element("domaincheckpoint")
    etree.SubElement(root, "name").text = name
    disks = etree.SubElement(root, "disks")
    for target in targets:
        etree.SubElement(disks, "disk", name=target, checkpoint="bitmap")
    for target in left_out:
        etree.SubElement(disks, "disk", name=target, checkpoint="no")
    return text(root)


def names(domain: Domain) -> list[str]:
    with telling(f"listing the checkpoints of {domain}"):
        return [str(handle.getName()) for handle in domain.handle.listAllCheckpoints()]


def own_names(domain: Domain, repository_id: str) -> list[str]:
    """The checkpoints of one repository on this guest, oldest first (ULIDs sort by time)."""
    return sorted(name for name in names(domain) if name.startswith(f"{_line(repository_id)}."))


def chain_fault(domain: Domain, name: str, target: str) -> str | None:
    """Why changes since checkpoint `name` are not proven for this disk; None if they are."""
    if name not in names(domain):
        return f"checkpoint {name} is not on the guest any more"
    with telling(f"reading the checkpoints of {domain}"):
        first = domain.handle.checkpointLookupByName(name)
        chain = [first, *first.listAllChildren(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS)]
    for handle in chain:
        with telling(f"reading a checkpoint of {domain}"):
            xml = handle.getXMLDesc()
        if handle is first and not _covers(xml, target):
            return f"checkpoint {name} does not cover the disk"
        if (fault := _validation_fault(domain, xml)) is not None:
            return f"checkpoint {handle.getName()} is not sound: {fault}"
    return None


def _covers(checkpoint: str, target: str) -> bool:
    return any(
        disk.get("name") == target and disk.get("checkpoint", "bitmap") == "bitmap"
        for disk in parse(checkpoint).iterfind("./disks/disk")
    )


def _validation_fault(domain: Domain, xml: str) -> str | None:
    flags = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
    try:
        domain.handle.checkpointCreateXML(xml, flags)
    except libvirt.libvirtError as error:
        return str(error.get_error_message())
    return None


def delete(domain: Domain, name: str, images: Iterable[Path] = ()) -> bool:
    """Delete a checkpoint and its bitmaps; return True if it was there. Raises HypervisorError for one that stays.

    libvirt deletes bitmaps of running guests only, and none if one is missing. Then they are removed one by one, of a guest
    that is off from its disks' images and from `images`; libvirt forgets the checkpoint only when no bitmap is left.
    """
    handle = _find(domain, name)
    if handle is None:
        return False
    with suppress(libvirt.libvirtError):  # it is deleted all the same
        _rewrite(domain, handle)
    try:
        with telling(f"deleting checkpoint {name} of {domain}"):
            handle.delete()
    except HypervisorUnreachableError:
        raise
    except HypervisorError:
        if domain.active():
            lost.remove_bitmaps(domain, {name})
        else:
            bitmaps.remove_from_images({*images, *_image_paths(domain)}, {name})
        with telling(f"forgetting checkpoint {name} of {domain}"):
            handle.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    return True


def _image_paths(domain: Domain) -> list[Path]:
    """Return the qcow2 images of a guest's disks on this host. Raises HypervisorError for a volume that is not found."""
    images = volumes.images_with_bitmaps(domain, domain.disks())
    for one in images.unlocated:
        raise HypervisorError(
            f"Bitmaps of {domain}, disk {one.target}, cannot be looked for: {one.why}.",
            advice=f"`virsh pool-start {shlex.quote(one.pool)}` and `virsh pool-refresh {shlex.quote(one.pool)}`.",
        )
    return images.paths


def _rewrite(domain: Domain, handle: Any) -> None:
    """Have libvirt write the checkpoint's file again.

    A libvirtd that was killed while it wrote it left it as `<name>.xml.new`. The next one reads that like any other
    [qemuDomainCheckpointLoad], but deletes `<name>.xml` only: the checkpoint would be back whenever libvirtd starts, without a
    bitmap, and break the chain. Seen with libvirt 9.0; 11.3 has the same code.
    """
    domain.handle.checkpointCreateXML(handle.getXMLDesc(), libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)


def _find(domain: Domain, name: str) -> Any:
    try:
        with telling(f"looking for checkpoint {name} of {domain}"):
            return domain.handle.checkpointLookupByName(name)
    except HypervisorError as error:
        if error.libvirt_code == libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT:
            return None
        raise
