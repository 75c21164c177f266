"""The parts of a definition that reach beyond the guest and the disks that were restored. Pure.

A definition comes from a repository, and libvirt does as root what it says: it runs a network script, opens a host's file for
the guest, gives it a device. So a guest is defined only of what is known to stay within it (`grammar`); everything else is
named, and needs `--trust-definition`.

    captured XML ─▶ definition (disks replaced, drives emptied) ─▶ element by element: in the grammar, and by its rules?
                                                                    ├▶ yes: defined
                                                                    └▶ no: refused, before anything is written, or trusted
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from lxml import etree

from freezeframe.printable import one_line
from workers.hypervisor.disk import parse
from workers.restore.grammar import DOMAIN, GROUPS
from workers.restore.rules import RULES, Asked, Host, Rule, one_of, plain

#: Characters of a value that are repeated.
MOST_CHARACTERS: Final = 120
#: Elements of a definition that is not trusted that are named.
MOST_NAMED: Final = 50
_INDENT: Final = 2


@dataclass
class _Node:
    """The rules of one element: rules by attribute, attributes that must be there, children by tag, a rule for its text."""

    attributes: dict[str, Rule] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    children: dict[str, _Node] = field(default_factory=dict)
    text: Rule = plain
    anything: bool = False


def reaches(xml: str, host: Host) -> tuple[str, ...]:
    """Return what a definition has that is not known to stay within the guest: each element with its value."""
    root = parse(xml)
    etree.strip_tags(
        root, etree.Comment, etree.ProcessingInstruction
    )  # in the middle of a text they would hide its rest
    return tuple(_found(root, {"domain": _grammar()}, (), Asked(host, root.findtext("name", ""))))


def named(found: Sequence[str]) -> str:
    """Return what `reaches` has found, as a part of a sentence."""
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return "; ".join(found[:MOST_NAMED]) + more


def _found(element: etree._Element, known: Mapping[str, _Node], above: tuple[str, ...], asked: Asked) -> Iterator[str]:
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
            node.text = RULES[word[1:]]
        elif word.startswith("="):
            node.text = one_of(frozenset(word[1:].split("|")))
        else:
            name, rule = _attribute(word.replace("!", ""))
            node.attributes[name] = rule
            node.required |= {name} if "!" in word else set()
    return node


def _attribute(word: str) -> tuple[str, Rule]:
    if "=" in word:
        name, _, values = word.partition("=")
        return name, one_of(frozenset(values.split("|")))
    name, _, rule = word.partition(":")
    return name, RULES[rule] if rule else plain


def _depth(line: str) -> int:
    return (len(line) - len(line.lstrip())) // _INDENT
