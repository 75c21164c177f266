"""Disks that a guest had only as it ran, put into the definition of its next start. Pure.

    captured as it ran        in the stored definition             then
    vda, the same source      vda, the same source                 the stored one
    vdc, attached live only   nothing                              the running one, at an address that libvirt chooses
    vdb upon other storage    vdb, exchanged for the next start    the running one: its content is what was captured

What is captured is what the guest ran with, so a restored guest must have each of those disks.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Final

from lxml import etree

from workers.hypervisor.disk import disks_of, parse

#: What of a running disk belongs to its run, or to its place among the other devices of that run.
_OF_THE_RUN: Final = ("alias", "address", "backingStore", "mirror", "privateData")
#: Where in <devices> a disk may stand is free; here it stands with the others.
_DEVICES: Final = "devices"


def with_live_disks(root: etree._Element, domain_xml: str, live_xml: str, targets: Iterable[str]) -> None:
    """Put the running <disk> of each of `targets` into `root` where the stored definition has none, or another."""
    stored = {disk.target: disk for disk in disks_of(domain_xml)}
    running = {disk.target: disk for disk in disks_of(live_xml)}
    live = parse(live_xml)
    for target in targets:
        if target not in running or running[target] == stored.get(target):
            continue
        element = _find(live, target)
        devices = root.find(_DEVICES)
        if element is None or devices is None:
            continue
        _replace(devices, _find(root, target), _without_run(element))


def _find(root: etree._Element, target: str) -> etree._Element | None:
    disks = root.iterfind("./devices/disk")
    return next(
        (disk for disk in disks if (found := disk.find("target")) is not None and found.get("dev") == target), None
    )


def _without_run(element: etree._Element) -> etree._Element:
    disk = deepcopy(element)
    for tag in _OF_THE_RUN:
        for found in disk.findall(tag):
            disk.remove(found)
    for source in disk.iterfind("source"):
        source.attrib.pop("index", "")
    return disk


def _replace(devices: etree._Element, old: etree._Element | None, new: etree._Element) -> None:
    if old is not None:
        devices.replace(old, new)
        return
    last = devices.findall("disk")
    devices.insert(list(devices).index(last[-1]) + 1 if last else 0, new)
