"""The parts of a definition that reach beyond the guest and the disks that were restored. Pure.

A definition comes from a repository, and libvirt does as root what it says: it runs a network script, opens a host's file for
the guest, gives it a device. So a guest is defined only of what is known to stay within it (`grammar`); everything else is
named, and needs `--trust-definition`.

    captured XML ─▶ definition (disks replaced, drives emptied) ─▶ element by element: in the grammar, and by its rules?
                                                                    ├▶ yes: defined
                                                                    └▶ no: refused, before anything is written, or trusted
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Final, Protocol

from lxml import etree

from freezeframe.printable import one_line
from workers.hypervisor.disk import parse
from workers.restore.grammar import DOMAIN, GROUPS

#: Characters of a value that are repeated.
MOST_CHARACTERS: Final = 120
#: Threads, or queues of a device, that a definition may ask for; QEMU's largest guests have some hundred processors.
FEW: Final = 256
LEAST_MTU_BYTES: Final = 1280
_INDENT: Final = 2

#: Where distributions have firmware that guests share, and nothing that is secret or may be written.
_FIRMWARE: Final = re.compile(
    r"/usr/share/(OVMF|AAVMF|ovmf|edk2|edk2-[a-z0-9]+|qemu|qemu-efi|qemu-efi-[a-z0-9]+|qemu-kvm|seabios)/.+"
)
#: The guest's own file of UEFI variables, which libvirt names by the guest.
_VARIABLES: Final = re.compile(r"/(var/lib|root/\.config|home/[^/]+/\.config)/libvirt/qemu/nvram/(?P<name>[^/]+)")
_VARIABLES_SUFFIX: Final = re.compile(r"_VARS(\.[a-z0-9]+)*")
_TERMINAL: Final = re.compile(r"/dev/pts/[0-9]+")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")
_GENERATED: Final = re.compile(r"(vnet|vif|macvtap|macvlan)[0-9]+")
_KEYMAP: Final = re.compile(r"[a-z]{2}(-[a-z]{2})?|bepo")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ENTROPY: Final = frozenset({"", "/dev/random", "/dev/urandom"})


@dataclass(frozen=True)
class Host:
    """The things of its host that a definition may name: QEMU's programs, and the disks that were restored for it."""

    emulators: Collection[str]
    disks: Collection[str] = ()


@dataclass(frozen=True)
class _Asked:
    """Of which guest, on which host, a rule is asked."""

    host: Host
    name: str


class Rule(Protocol):
    """Return True for a value, of an attribute or a text of `element`, that stays within the guest."""

    def __call__(self, value: str, element: etree._Element, asked: _Asked, /) -> bool: ...


def _plain(value: str, _: etree._Element, __: _Asked) -> bool:
    """Return True for a value that is no path. It is the rule of what has no other."""
    return "/" not in value


@dataclass
class _Node:
    """The rules of one element: rules by attribute, attributes that must be there, children by tag, a rule for its text."""

    attributes: dict[str, Rule] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    children: dict[str, _Node] = field(default_factory=dict)
    text: Rule = _plain
    anything: bool = False


def reaches(xml: str, host: Host) -> tuple[str, ...]:
    """Return what a definition has that is not known to stay within the guest: each element with its value."""
    root = parse(xml)
    etree.strip_tags(
        root, etree.Comment, etree.ProcessingInstruction
    )  # in the middle of a text they would hide its rest
    return tuple(_found(root, {"domain": _grammar()}, (), _Asked(host, root.findtext("name", ""))))


def _found(element: etree._Element, known: Mapping[str, _Node], above: tuple[str, ...], asked: _Asked) -> Iterator[str]:
    path = (*above, _tag(element))
    place = "/".join(path[1:]) or path[0]
    node = known.get(str(element.tag))
    if node is None:
        yield _told(place, element)
        return
    if node.anything:
        return
    for missing in sorted(node.required - {str(name) for name in element.attrib}):
        yield f"<{place}> without {missing}"
    for attribute, value in element.attrib.items():
        rule = node.attributes.get(str(attribute))
        if rule is None or not rule(str(value), element, asked):
            yield f"<{place} {_said(str(attribute), str(value))}>"
    text = "".join([element.text or "", *(child.tail or "" for child in element)]).strip()
    if not node.text(text, element, asked):
        yield f"<{place}> {one_line(text[:MOST_CHARACTERS])}"
    for child in element:
        yield from _found(child, node.children, path, asked)


def _tag(element: etree._Element) -> str:
    name = etree.QName(element).localname
    return f"{element.prefix}:{name}" if element.prefix else name


def _told(place: str, element: etree._Element) -> str:
    """Return an element that is not known, with what it says."""
    attributes = "".join(f" {_said(str(name), str(value))}" for name, value in element.attrib.items())
    within = [_said(str(name), str(value)) for one in element.iterdescendants() for name, value in one.attrib.items()]
    said = " ".join([*" ".join(map(str, element.itertext())).split(), *within])
    return f"<{place}{attributes}> {one_line(said[:MOST_CHARACTERS])}".strip()


def _said(attribute: str, value: str) -> str:
    return one_line(f"{attribute}={value[:MOST_CHARACTERS]!r}")


# The rules.


def _emulator(value: str, _: etree._Element, asked: _Asked) -> bool:
    return value in asked.host.emulators


def _restored(value: str, _: etree._Element, asked: _Asked) -> bool:
    return value in asked.host.disks


def _shared(value: str, _: etree._Element, __: _Asked) -> bool:
    return _FIRMWARE.fullmatch(value) is not None and ".." not in PurePosixPath(value).parts


def _firmware(value: str, loader: etree._Element, asked: _Asked) -> bool:
    """Return False for firmware that is not read-only: QEMU is given the file to write to it."""
    only_read = loader.get("type", "rom") == "rom" or loader.get("readonly") == "yes"
    return value == "" or (only_read and _shared(value, loader, asked))


def _variables(value: str, _: etree._Element, asked: _Asked) -> bool:
    """Return True for variables of this guest: others in that directory are other guests'."""
    match = _VARIABLES.fullmatch(value)
    name = match["name"] if match else ""
    own = name.startswith(asked.name) and _VARIABLES_SUFFIX.fullmatch(name[len(asked.name) :]) is not None
    return value == "" or own


def _terminal(value: str, element: etree._Element, _: _Asked) -> bool:
    """Return True for the terminal that it happened to be: libvirt takes another. Of a socket it would be the place."""
    device = element if element.tag == "console" else element.getparent()
    is_terminal = device is not None and device.get("type", "pty") == "pty"
    return is_terminal and _TERMINAL.fullmatch(value) is not None


def _loopback(value: str, _: etree._Element, __: _Asked) -> bool:
    try:
        return ip_address(value).is_loopback
    except ValueError:
        return value == "localhost"


def _entropy(value: str, _: etree._Element, __: _Asked) -> bool:
    return value in _ENTROPY


def _any(_value: str, _element: etree._Element, _asked: _Asked) -> bool:
    """Return True: libvirt takes it for nothing but a text."""
    return True


def _label(value: str, _: etree._Element, __: _Asked) -> bool:
    """Return True for a name of a port that is one of a file too: libvirt makes the socket by it, as root."""
    return _LABEL.fullmatch(value) is not None


def _generated(value: str, _: etree._Element, __: _Asked) -> bool:
    """Return True for a network device's name that libvirt gives again. By another the host's firewall may know a device."""
    return _GENERATED.fullmatch(value) is not None


def _keymap(value: str, _: etree._Element, __: _Asked) -> bool:
    """Return True for a keymap of QEMU's: another name it opens as a file."""
    return _KEYMAP.fullmatch(value) is not None


def _zone(value: str, _: etree._Element, __: _Asked) -> bool:
    """Return True for the name of a time zone: an absolute path, or one that climbs, is opened as a file."""
    return _ZONE.fullmatch(value) is not None


def _few(value: str, _: etree._Element, __: _Asked) -> bool:
    """Return True for a number of threads or queues that a large guest may have. Each takes memory and threads of the host."""
    return _NUMBER.fullmatch(value) is not None and int(value) <= FEW


def _mtu(value: str, _: etree._Element, __: _Asked) -> bool:
    """Return True for a packet size that IPv6 allows. A bridge takes the smallest of its ports', for all guests on it."""
    return _NUMBER.fullmatch(value) is not None and int(value) >= LEAST_MTU_BYTES


def _partition(value: str, _: etree._Element, __: _Asked) -> bool:
    return value == "/machine"


_RULES: Final[dict[str, Rule]] = {
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
    "partition": _partition,
}


# The grammar, read.


@cache
def _grammar() -> _Node:
    lines = [line for line in DOMAIN.splitlines() if line.strip()]
    return _children(lines)["domain"]


def _children(lines: list[str]) -> dict[str, _Node]:
    """Return the elements that these lines describe, all of which are indented as the first or more."""
    found: dict[str, _Node] = {}
    if not lines:
        return found
    depth = _depth(lines[0])
    starts = [number for number, line in enumerate(lines) if _depth(line) == depth]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        tag, *words = lines[start].split()
        if tag.startswith("&"):
            found |= _children([line for line in GROUPS[tag[1:]].splitlines() if line.strip()])
        else:
            found[tag] = _node(words, lines[start + 1 : end])
    return found


def _node(words: list[str], inner: list[str]) -> _Node:
    node = _Node(children=_children(inner))
    for word in words:
        if word == "*":
            node.anything = True
        elif word.startswith("@"):
            node.text = _RULES[word[1:]]
        elif word.startswith("="):
            node.text = _one_of(frozenset(word[1:].split("|")))
        else:
            name, rule = _attribute(word.replace("!", ""))
            node.attributes[name] = rule
            node.required |= {name} if "!" in word else set()
    return node


def _attribute(word: str) -> tuple[str, Rule]:
    if "=" in word:
        name, _, values = word.partition("=")
        return name, _one_of(frozenset(values.split("|")))
    name, _, rule = word.partition(":")
    return name, _RULES[rule] if rule else _plain


def _one_of(values: frozenset[str]) -> Rule:
    return lambda value, _element, _asked: value in values


def _depth(line: str) -> int:
    return (len(line) - len(line.lstrip())) // _INDENT
