"""Character devices of a guest with a new identity: consoles, serial ports and channels that would else share a file. Pure.

| backend                        | becomes                                                    |
|--------------------------------|------------------------------------------------------------|
| <log>                          | nothing: two guests must not write into one log            |
| file, pipe                     | `<new name>-<old file name>` in the same directory         |
| unix, bound, a virtio channel  | a socket of libvirt's choice                               |
| unix, bound, anything else     | as a file                                                  |
| tcp or udp, bound; a device    | unchanged, with a warning                                  |
| pty                            | unchanged, but for the terminal that it happened to be     |
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from lxml import etree

#: In /var/lib/libvirt/qemu, and since libvirt 9.7 in /run/libvirt/qemu.
_OWN_SOCKET: Final = "/libvirt/qemu/channel/"

_TAGS: Final = ("serial", "parallel", "console", "channel")


def separate_character_devices(root: etree._Element, name: str) -> Iterator[str]:
    """See the table. Yields warnings. A console that mirrors a serial port gets the same path as the port."""
    for device in _devices(root):
        for log in device.findall("log"):
            device.remove(log)
        for source in device.findall("source"):
            yield from _separate(device, source, name)


def forget_own_sockets(root: etree._Element) -> None:
    """Take out the sockets that libvirt had chosen: their folder belongs to one run of one guest on one host."""
    for device in _devices(root):
        for source in device.findall("source"):
            if _OWN_SOCKET in source.get("path", "") and _chosen_by_libvirt(device):
                device.remove(source)


def _devices(root: etree._Element) -> list[etree._Element]:
    return [device for tag in _TAGS for device in root.findall(f"./devices/{tag}")]


def _separate(device: etree._Element, source: etree._Element, name: str) -> Iterator[str]:
    kind = device.get("type")
    bound = source.get("mode", "bind") == "bind"
    if kind == "unix" and bound and _chosen_by_libvirt(device):
        device.remove(source)
    elif kind in {"file", "pipe"} or (kind == "unix" and bound):
        _rename(source, name)
    elif kind == "pty":
        source.attrib.pop("path", "")
        device.attrib.pop("tty", "")
    elif kind == "dev" or (kind in {"tcp", "udp"} and bound):
        where = source.get("path") or f"port {source.get('service')}"
        yield f"Its {device.tag} uses {where}, which the captured guest may be using too."


def _chosen_by_libvirt(device: etree._Element) -> bool:
    """Whether libvirt makes a path where there is none: for named virtio channels. [libvirt qemu_domain.c]"""
    return device.tag == "channel" and device.find("target[@type='virtio'][@name]") is not None


def _rename(source: etree._Element, name: str) -> None:
    path = PurePosixPath(source.get("path", ""))
    if path.name:
        source.set("path", str(path.with_name(f"{name}-{path.name}")))
