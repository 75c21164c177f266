"""The storage behind each disk of a guest, as its live definition has it. Pure.

<disk type='file'>
  <source file='…'>                         the active layer
    <dataStore type='file'><source/></…>    its data file
  </source>
  <backingStore type='file'><source/>       the layer below, and so on
  <mirror type='file'><source/>             the destination of a block job
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from workers.hypervisor.disk import parse

#: Protocols whose names say which storage they mean, whichever server is asked: a pool and image, a target's IQN, a volume id.
_NAMED_EVERYWHERE = frozenset({"rbd", "iscsi", "vxhs"})
#: Attributes of a source that do not say what it is.
_INCIDENTAL = frozenset({"index", "startupPolicy", "mode", "tls", "tlsHostname"})


@dataclass(frozen=True)
class Source:
    """One piece of storage: a path to look at, a volume to find the path of, or facts that say what it is."""

    kind: str
    place: str
    path: str | None = None
    volume: tuple[str, str] | None = None  # pool, volume
    facts: tuple[tuple[str, str], ...] = ()
    is_qcow2: bool = False
    servers: tuple[str, ...] = ()  # that the source names; no fact where its name says which storage it is
    config: str = ""  # the file that names them else


@dataclass(frozen=True)
class DiskSources:
    active: Source
    data_file: Source | None
    backing: tuple[Source, ...]
    mirror: Source | None = None  # that a block job writes to: a copy, or the image that a commit goes to


def sources_of(domain_xml: str) -> dict[str, DiskSources]:
    """The storage of every disk that has a source, by target."""
    found = {}
    for disk in parse(domain_xml).iterfind("./devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        if target is None or source is None:
            continue
        found[target.get("dev", "")] = DiskSources(
            active=_source(disk.get("type", "file"), source, _format(disk.find("driver"))),
            data_file=next(_data_files(source), None),
            backing=tuple(_backing(disk)),
            mirror=_mirror(disk),
        )
    return found


def variables_of(domain_xml: str) -> str | None:
    """The file with the variables of the guest's UEFI, which QEMU reads and writes, and which is no disk."""
    nvram = parse(domain_xml).find("./os/nvram")
    if nvram is None:
        return None
    source = nvram.find("source")
    named = nvram.text if source is None else source.get("file")
    return (named or "").strip() or None


def _backing(element: etree._Element) -> Iterator[Source]:
    """The layers below, uppermost first. A data file of theirs is named by the image itself."""
    below = element.find("backingStore")
    source = None if below is None else below.find("source")
    if below is None or source is None:
        return
    yield _source(below.get("type", "file"), source, _format(below.find("format")))
    yield from _backing(below)


def _mirror(disk: etree._Element) -> Source | None:
    mirror = disk.find("mirror")
    source = None if mirror is None else mirror.find("source")
    if mirror is None or source is None:
        return None
    return _source(mirror.get("type", "file"), source, _format(mirror.find("format")))


def _data_files(source: etree._Element) -> Iterator[Source]:
    store = source.find("dataStore")
    inner = None if store is None else store.find("source")
    if store is not None and inner is not None:
        yield _source(store.get("type", "file"), inner)


def _format(element: etree._Element | None) -> str:
    return "raw" if element is None else element.get("type", "raw")


def _source(kind: str, source: etree._Element, image_format: str = "raw") -> Source:
    is_qcow2 = image_format == "qcow2"
    for attribute in ("file", "dev"):
        if path := source.get(attribute):
            return Source(kind, path, path=path, is_qcow2=is_qcow2)
    if kind == "volume":
        pool, volume = source.get("pool", ""), source.get("volume", "")
        return Source(kind, f"{pool}/{volume}", volume=(pool, volume), is_qcow2=is_qcow2)
    return _named(kind, source)


def _named(kind: str, source: etree._Element) -> Source:
    """Storage that is no path on this host."""
    facts = {name: value for name, value in _attributes(source) if name not in _INCIDENTAL}
    facts |= {f"address {name}": value for one in source.iterfind("address") for name, value in _attributes(one)}
    if (snapshot := source.find("snapshot")) is not None:
        facts["snapshot"] = snapshot.get("name", "")
    protocol, name = source.get("protocol", ""), source.get("name", "")
    servers = tuple(sorted(_server(host) for host in source.iterfind("host")))
    if protocol and protocol not in _NAMED_EVERYWHERE:
        facts["servers"] = " ".join(servers)
    place = f"{protocol}:{name}" if protocol else kind
    config = source.find("config")
    file = "" if config is None else config.get("file", "")
    return Source(kind, place, facts=tuple(sorted(facts.items())), servers=servers, config=file)


def _attributes(element: etree._Element) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in element.items()]


def _server(host: etree._Element) -> str:
    return host.get("socket") or f"{host.get('name', '')}:{host.get('port', '')}"
