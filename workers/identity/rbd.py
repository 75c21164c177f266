"""The name of an RBD image on every host: its cluster's id and its monitors, with pool, namespace and image.

QEMU's own access    the monitors of the source; without any, those of the host's ceph.conf, which may tell the cluster's id too
mapped by the kernel /sys/bus/rbd/devices/N: cluster_fsid; config_info begins with the monitors [linux drivers/block/rbd.c]

A pool and an image of one name may be in two clusters, so without either the image is compared on its own host alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from freezeframe.network_key import monitor, rbd_keys

#: Where librados looks, unless libvirt's definition names another.
CEPH_CONF: Final = Path("/etc/ceph/ceph.conf")
_ASSIGNMENT: Final = re.compile(r"\s*(fsid|mon[ _-]host)\s*=\s*(.*?)\s*(?:[;#].*)?")
_SECTION: Final = re.compile(r"\s*\[\s*([^\]]*?)\s*\]\s*")
#: `192.0.2.1`, `store:6789`, `[2001:db8::1]:3300`, and each of those as in `[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0]`.
_ADDRESS: Final = re.compile(r"(?:v[12]:)?(\[[0-9A-Fa-f:]+\](?::\d+)?|[\w.-]+(?::\d+)?)(?:/\d+)?")
_PORT: Final = re.compile(r"(^[^:]*|\]):\d+$")


@dataclass(frozen=True)
class Cluster:
    """A cluster as one host knows it: its id, where that is known, and its monitors in one spelling."""

    cluster_id: str = ""
    monitors: frozenset[str] = frozenset()


def keys_of_source(image: str, servers: Iterable[str], conf: str = "") -> frozenset[str]:
    """Return the keys of an image that QEMU opens at these servers (`NAME:PORT`), or at those of its ceph.conf."""
    known = cluster_of(_text(Path(conf or CEPH_CONF)))
    monitors = frozenset(map(monitor, servers))
    is_known = not monitors or bool(monitors & known.monitors)
    return rbd_keys(image, monitors or known.monitors, known.cluster_id if is_known else "")


def keys_of_device(facts: Mapping[str, str], directory: Path, sys: Path) -> frozenset[str]:
    """Return the keys of a device in /sys; none if it is no image that the kernel has mapped, or a partition of one."""
    if "cluster_fsid" not in facts or "partition" in facts:
        return frozenset()
    name = "/".join(facts[part] for part in ("pool", "pool_ns", "name") if part in facts)
    snapshot = facts.get("current_snap", "-")
    info = _text(sys / "bus/rbd/devices" / directory.name.removeprefix("rbd") / "config_info")
    image = name if snapshot == "-" else f"{name}@{snapshot}"
    return rbd_keys(image, _addresses(info.partition(" ")[0]), facts["cluster_fsid"].lower())


def cluster_of(conf: str) -> Cluster:
    """Return what the text of a ceph.conf says for clients. Pure."""
    found: dict[str, str] = {}
    section = "global"
    for line in conf.splitlines():
        if heading := _SECTION.fullmatch(line):
            section = heading[1]
        elif section in {"global", "client"} and (assignment := _ASSIGNMENT.fullmatch(line)):
            found[assignment[1].replace(" ", "_").replace("-", "_")] = assignment[2]
    return Cluster(found.get("fsid", "").lower(), frozenset(_addresses(found.get("mon_host", ""))))


def _addresses(text: str) -> list[str]:
    found = _ADDRESS.findall(re.sub(r"\[(?=v[12]:)", "", text))
    return [monitor(address if _PORT.search(address) else f"{address}:") for address in found]


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""
