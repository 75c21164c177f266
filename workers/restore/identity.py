"""A new identity: what lets a restored guest live on one host with the guest it was captured from. Pure.

Where libvirt can choose, it does: MAC addresses, ports, sockets, the file for UEFI variables, context ids. Where it cannot, the
new name is put in front: files that a guest writes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lxml import etree

from workers.restore.chardev import separate_character_devices

#: Names of a port on a virtual switch that only one guest may have. libvirt makes new ones.
_PORT_IDS: Final = ("interfaceid", "instanceid")
_GRAPHICS_PORTS: Final = ("port", "tlsPort")


@dataclass(frozen=True)
class Identity:
    """A name and a UUID that no guest on the host has."""

    name: str
    uuid: str


def adopt(root: etree._Element, identity: Identity) -> Iterator[str]:
    """Give the domain another identity. Yields warnings; changes nothing before it is iterated."""
    _name(root, identity)
    for interface in root.iterfind("./devices/interface"):
        _separate_interface(interface)
    for graphics in root.iterfind("./devices/graphics"):
        _separate_graphics(graphics)
    for cid in root.iterfind("./devices/vsock/cid"):
        cid.attrib.pop("address", "")
        cid.set("auto", "yes")
    _drop_labels(root)
    _drop_state_paths(root)
    yield from separate_character_devices(root, identity.name)


def _name(root: etree._Element, identity: Identity) -> None:
    for tag, value in (("name", identity.name), ("uuid", identity.uuid)):
        element = root.find(tag)
        if element is not None:
            element.text = value
    for system in root.iterfind("./sysinfo/system"):
        for entry in system.findall("entry[@name='uuid']"):  # libvirt refuses one that is not the domain's
            system.remove(entry)


def _separate_interface(interface: etree._Element) -> None:
    for tag in ("mac", "target"):
        for element in interface.findall(tag):
            interface.remove(element)
    for port in interface.findall("virtualport"):
        for parameters in port.findall("parameters"):
            for attribute in _PORT_IDS:
                parameters.attrib.pop(attribute, "")
            if not parameters.attrib:
                port.remove(parameters)


def _separate_graphics(graphics: etree._Element) -> None:
    for element in (graphics, *graphics.findall("listen")):
        element.attrib.pop("socket", "")
    if graphics.get("type") not in {"vnc", "spice", "rdp"} or graphics.find("listen[@type='socket']") is not None:
        return
    for attribute in _GRAPHICS_PORTS:
        graphics.attrib.pop(attribute, "")
    graphics.set("autoport", "yes")
    if graphics.get("websocket") is not None:
        graphics.set("websocket", "-1")


def _drop_labels(root: etree._Element) -> None:
    """A static label is the old guest's own; without one libvirt draws a label and gives it to the files."""
    for label in root.findall("seclabel"):
        if label.get("type") != "none":
            root.remove(label)


def _drop_state_paths(root: etree._Element) -> None:
    """UEFI variables and TPM state: libvirt chooses a place by the guest's name or UUID. A template stays."""
    for system in root.findall("os"):
        for nvram in system.findall("nvram"):
            nvram.text = None
            for child in nvram.findall("source"):
                nvram.remove(child)
            nvram.attrib.pop("type", "")
            if not nvram.attrib:
                system.remove(nvram)
    for backend in root.iterfind("./devices/tpm/backend[@type='emulator']"):
        for source in backend.findall("source"):
            backend.remove(source)
