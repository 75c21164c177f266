"""The grammar of definitions that need no trust: what is let through at all, whatever element it is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from lxml import etree

from workers.restore.rules import Asked, Host, Rule
from workers.restore.trust import _grammar, _Node

HOST = Host({"/usr/bin/qemu"}, {"/restored/vda.qcow2"})


def rules() -> Iterator[tuple[str, str, Callable[[str], bool]]]:
    """Each element of the grammar by its place, with an attribute, or "" for its text, and what is let through for it."""

    def inside(place: str, element: etree._Element, node: _Node) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
        for attribute, rule in {**node.attributes, "": node.text}.items():
            yield place, attribute, partial(_passes, rule, element)
        for tag, child in node.children.items():
            yield from inside(f"{place}/{tag}".lstrip("/"), etree.SubElement(element, tag), child)

    return inside("", etree.Element("domain"), _grammar())


def _passes(rule: Rule, element: etree._Element, value: str) -> bool:
    return rule(value, element, Asked(HOST, "vm"))


#: Where a text may look like a path, because libvirt shows it to the guest or to people and does nothing else with it.
TEXTS = {("title", ""), ("description", ""), ("devices/graphics", "passwd"), ("devices/interface/source", "portgroup")}


@pytest.mark.parametrize("path", ["/etc/shadow", "../../etc/shadow", "etc/../shadow", "./shadow"])
def test_no_value_of_the_grammar_can_be_a_path(path: str) -> None:
    passed = {(place, attribute) for place, attribute, passes in rules() if passes(path)}
    assert {one for one in passed if not one[0].startswith("sysinfo/")} == TEXTS


def test_what_chooses_a_device_or_a_backend_has_its_values_listed() -> None:
    """One of a later libvirt may reach the host. A state, a number or a name of the guest's own chooses nothing there."""
    choosing = {"type", "model", "mode", "backend", "action", "scheduler", "bus", "relabel", "device", "blob"}
    passed = {(place, name) for place, name, passes in rules() if name in choosing and passes("host-thing")}
    assert {one for one in passed if not one[0].endswith("/address")} == set()


@pytest.mark.parametrize("value", ["257", "-1", "0x10", "many", "", "1000000000000"])
def test_threads_and_queues_are_few(value: str) -> None:
    places = {(place, name) for place, name, passes in rules() if passes("256") and not passes("257")}
    assert {("iothreads", ""), ("devices/interface/driver", "queues"), ("iothreadids/iothread", "id")} <= places
    assert not any(passes(value) for place, name, passes in rules() if (place, name) in places)
