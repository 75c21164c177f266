"""The rules for values of a definition that is not trusted, which the grammar names. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Final, Protocol

from lxml import etree

#: Threads, or queues of a device, that a definition may ask for; QEMU's largest guests have some hundred processors.
FEW: Final = 256
LEAST_MTU_BYTES: Final = 1280
#: Where distributions have firmware that guests share, and nothing that is secret or may be written.
_FIRMWARE: Final = re.compile(
    r"/usr/share/(OVMF|AAVMF|ovmf|edk2|edk2-[a-z0-9]+|qemu|qemu-efi|qemu-efi-[a-z0-9]+|qemu-kvm|seabios)/.+"
)
#: The guest's own file of UEFI variables, which libvirt names by the guest.
#: Not below another user's home, who may have put a link to a file of root's there.
_VARIABLES: Final = re.compile(r"/(var/lib|root/\.config)/libvirt/qemu/nvram/(?P<name>[^/]+)")
_VARIABLES_SUFFIX: Final = re.compile(r"_VARS(\.[a-z0-9]+)*")
#: Where distributions have QEMU.
_QEMU: Final = re.compile(r"/usr/(bin|libexec)/qemu-(kvm|system-[a-z0-9_]+)")
_TERMINAL: Final = re.compile(r"/dev/pts/[0-9]+")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")
_GENERATED: Final = re.compile(r"(vnet|vif|macvtap|macvlan)[0-9]+")
_KEYMAP: Final = re.compile(r"[a-z]{2}(-[a-z]{2})?|bepo")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ENTROPY: Final = frozenset({"", "/dev/random", "/dev/urandom"})


@dataclass(frozen=True)
class Host:
    """The things of its host that a definition may name: QEMU's programs, and the disks that were restored for it.

    `emulators`: None for a host that is not known. There it is what distributions call QEMU.
    """

    emulators: Collection[str] | None
    disks: Collection[str] = ()


@dataclass(frozen=True)
class Asked:
    """Of which guest, on which host, a rule is asked."""

    host: Host
    name: str


class Rule(Protocol):
    """Return True for a value, of an attribute or a text of `element`, that stays within the guest."""

    def __call__(self, value: str, element: etree._Element, asked: Asked, /) -> bool: ...


def plain(value: str, _: etree._Element, __: Asked) -> bool:
    """Return True for a value that is no path. It is the rule of what has no other."""
    return "/" not in value


def _emulator(value: str, _: etree._Element, asked: Asked) -> bool:
    emulators = asked.host.emulators
    return _QEMU.fullmatch(value) is not None if emulators is None else value in emulators


def _restored(value: str, _: etree._Element, asked: Asked) -> bool:
    return value in asked.host.disks


def _shared(value: str, _: etree._Element, __: Asked) -> bool:
    return _FIRMWARE.fullmatch(value) is not None and ".." not in PurePosixPath(value).parts


def _firmware(value: str, loader: etree._Element, asked: Asked) -> bool:
    """Return False for firmware that is not read-only: QEMU is given the file to write to it."""
    only_read = loader.get("type", "rom") == "rom" or loader.get("readonly") == "yes"
    return value == "" or (only_read and _shared(value, loader, asked))


def _variables(value: str, _: etree._Element, asked: Asked) -> bool:
    """Return True for variables of this guest: others in that directory are other guests'."""
    match = _VARIABLES.fullmatch(value)
    name = match["name"] if match else ""
    own = name.startswith(asked.name) and _VARIABLES_SUFFIX.fullmatch(name[len(asked.name) :]) is not None
    return value == "" or own


def _terminal(value: str, element: etree._Element, _: Asked) -> bool:
    """Return True for the terminal that it happened to be: libvirt takes another. Of a socket it would be the place."""
    device = element if element.tag == "console" else element.getparent()
    is_terminal = device is not None and device.get("type", "pty") == "pty"
    return is_terminal and _TERMINAL.fullmatch(value) is not None


def _loopback(value: str, _: etree._Element, __: Asked) -> bool:
    try:
        return ip_address(value).is_loopback
    except ValueError:
        return value == "localhost"


def _entropy(value: str, _: etree._Element, __: Asked) -> bool:
    return value in _ENTROPY


def _any(_value: str, _element: etree._Element, _asked: Asked) -> bool:
    """Return True: libvirt takes it for nothing but a text."""
    return True


def _label(value: str, _: etree._Element, __: Asked) -> bool:
    """Return True for a name of a port that is one of a file too: libvirt makes the socket by it, as root."""
    return _LABEL.fullmatch(value) is not None


def _generated(value: str, _: etree._Element, __: Asked) -> bool:
    """Return True for a network device's name that libvirt gives again. By another the host's firewall may know a device."""
    return _GENERATED.fullmatch(value) is not None


def _keymap(value: str, _: etree._Element, __: Asked) -> bool:
    """Return True for a keymap of QEMU's: another name it opens as a file."""
    return _KEYMAP.fullmatch(value) is not None


def _zone(value: str, _: etree._Element, __: Asked) -> bool:
    """Return True for the name of a time zone: an absolute path, or one that climbs, is opened as a file."""
    return _ZONE.fullmatch(value) is not None


def _few(value: str, _: etree._Element, __: Asked) -> bool:
    """Return True for a number of threads or queues that a large guest may have. Each takes memory and threads of the host."""
    return _NUMBER.fullmatch(value) is not None and int(value) <= FEW


def _mtu(value: str, _: etree._Element, __: Asked) -> bool:
    """Return True for a packet size that IPv6 allows. A bridge takes the smallest of its ports', for all guests on it."""
    return _NUMBER.fullmatch(value) is not None and int(value) >= LEAST_MTU_BYTES


def _in_memory(value: str, element: etree._Element, _: Asked) -> bool:
    """Return True if the guest's memory is a memfd. By any access, libvirt else makes a file of it on the host's disk."""
    sources = element.getroottree().findall("memoryBacking/source")
    is_memfd = bool(sources) and all(one.get("type") == "memfd" for one in sources)
    return value in {"shared", "private"} and is_memfd


def _partition(value: str, _: etree._Element, __: Asked) -> bool:
    return value == "/machine"


RULES: Final[dict[str, Rule]] = {
    "emulator": _emulator,
    "restored": _restored,
    "shared": _shared,
    "firmware": _firmware,
    "variables": _variables,
    "terminal": _terminal,
    "loopback": _loopback,
    "entropy": _entropy,
    "any": _any,
    "label": _label,
    "generated": _generated,
    "keymap": _keymap,
    "zone": _zone,
    "few": _few,
    "mtu": _mtu,
    "in-memory": _in_memory,
    "partition": _partition,
}


def one_of(values: frozenset[str]) -> Rule:
    """Return the rule that a value is one of these."""
    return lambda value, _element, _asked: value in values
