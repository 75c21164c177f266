"""What names storage that QEMU reaches over the network: a key that two sources share is one piece of storage. Pure.

| source                             | keys                                                                              |
|------------------------------------|-----------------------------------------------------------------------------------|
| iSCSI                              | `iscsi iqn.2004-04.org.example:disk/1`; LUN 0 if none is given                    |
| RBD                                | `image pool/image`, on one host only: two clusters may have both names            |
| RBD, its cluster's id or monitors  | one for each: `network rbd mon1:6789 pool/image`                                  |
| NBD, HTTP, Gluster, …              | one for each server: `network nbd store:10809 export`                             |
| the same, at the host's own server | `here nbd localhost:10809 export`, since that is another server on each host      |

Two names of one server in the DNS are two servers here: nobody is asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

#: The port that is asked where a source has none. [libvirt: virStorageSourceNetworkDefaultPort]
_PORTS: Final = {
    "cephfs": "6789",
    "cifs": "445",
    "ftp": "21",
    "ftps": "990",
    "gluster": "24007",
    "http": "80",
    "https": "443",
    "nbd": "10809",
    "nfs": "2049",
    "rbd": "6789",
    "sheepdog": "7000",
    "ssh": "22",
    "tftp": "69",
}
#: Protocols whose names are paths of a URI, to which libvirt adds the first slash.
_URIS: Final = frozenset({"ftp", "ftps", "http", "https", "ssh", "tftp"})
#: A monitor of Ceph has two ports, one for each version of its protocol. [ceph: doc/rados/configuration/msgr2.rst]
_CEPH: Final = frozenset({"cephfs", "rbd"})
_CEPH_PORTS: Final = frozenset({"", "3300", "6789"})
_LOCAL_NAMES: Final = frozenset({"", "localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"})


def network_keys(facts: Mapping[str, str]) -> frozenset[str]:
    """Return the keys of network storage with these facts (`contract.identity`); none for facts without a protocol."""
    protocol, name = facts.get("protocol", ""), facts.get("name", "")
    if not protocol:
        return frozenset()
    if protocol == "iscsi":
        return frozenset({iscsi_key(name)})
    known = ("protocol", "name", "servers", "snapshot")
    rest = "".join(f" {key}={value}" for key, value in sorted(facts.items()) if key not in known)
    snapshot = f"@{facts['snapshot']}" if facts.get("snapshot") else ""
    if protocol == "rbd":
        return rbd_keys(f"{name}{snapshot}", facts.get("servers", "").split())
    what = f"{name.lstrip('/') if protocol in _URIS else name}{snapshot}{rest}"
    servers = [_server(protocol, server) for server in facts.get("servers", "").split()]
    return frozenset(
        f"{'here' if is_local else 'network'} {protocol} {server} {what}"
        for server, is_local in servers or [("", True)]
    )


def rbd_keys(image: str, monitors: Iterable[str], cluster_id: str = "") -> frozenset[str]:
    """Return the keys of `POOL/IMAGE`, or `POOL/NAMESPACE/IMAGE`, with `@SNAPSHOT` if it is one of a snapshot."""
    found = {f"image {image}"}
    for one in monitors:
        server, is_local = _server("rbd", one)
        found.add(f"{'here' if is_local else 'network'} rbd {server} {image}")
    return frozenset(found | ({f"network rbd {cluster_id} {image}"} if cluster_id else set()))


def monitor(server: str) -> str:
    """Return one spelling of a monitor of Ceph, `NAME:PORT` as in libvirt's definition."""
    return _server("rbd", server)[0]


def iscsi_key(name: str) -> str:
    """Return the key of `TARGET/LUN`. The names of targets are the same in both cases. [RFC 3722]"""
    target, _, lun = name.partition("/")
    return f"iscsi {target.lower()}/{lun.lstrip('0') or '0'}"


def _server(protocol: str, server: str) -> tuple[str, bool]:
    """Return one spelling of `NAME:PORT` or a socket's path, and True if it is another server on each host."""
    if server.startswith("/"):
        return server, True
    name, _, port = server.rpartition(":")
    host, is_local = _host(name.strip("[]").lower().rstrip("."))
    if protocol in _CEPH and port in _CEPH_PORTS:
        port = _PORTS[protocol]
    return f"{host}:{port or _PORTS.get(protocol, '')}", is_local


def _host(name: str) -> tuple[str, bool]:
    if name in _LOCAL_NAMES or name.startswith("localhost."):
        return "localhost", True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name, False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return "localhost", True
    return address.compressed, False
