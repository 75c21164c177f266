"""The lab's wires: a bridge on the machine and a cable to each host.

    machine ── bridge ff<lab> .1 ──┬── ff<lab>h0 ═ eth0 .11  host-a
                                   └── ff<lab>h1 ═ eth0 .12  host-b

No default route and no forwarding: a host reaches its lab and nothing else. 198.18.0.0/15 is the block for
benchmarks between devices (RFC 2544), so it collides with nobody's real network.
"""

import json
import subprocess
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from ops.lab.errors import LabError

#: Tried in order, so that a second lab on a machine finds a network of its own.
SUBNETS = tuple(IPv4Network(f"198.18.{third}.0/24") for third in range(77, 128))
#: The first host's place in the subnet; .1 is the machine.
FIRST_HOST = 11


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _interfaces() -> list[dict[str, Any]]:
    interfaces: list[dict[str, Any]] = json.loads(_ip("-json", "address", "show"))
    return interfaces


def names() -> set[str]:
    """The machine's interfaces."""
    return {interface["ifname"] for interface in _interfaces()}


def free_subnet() -> IPv4Network:
    """The first of SUBNETS in which this machine has no address."""
    taken = [
        IPv4Address(address["local"])
        for interface in _interfaces()
        for address in interface["addr_info"]
        if address["family"] == "inet"
    ]
    for subnet in SUBNETS:
        if not any(address in subnet for address in taken):
            return subnet
    raise LabError(f"all of {SUBNETS[0]} to {SUBNETS[-1]} are in use on this machine")


def add_bridge(bridge: str, address: IPv4Interface) -> None:
    _ip("link", "add", bridge, "type", "bridge")
    _ip("address", "add", str(address), "dev", bridge)
    _ip("link", "set", bridge, "up")


def add_link(link: str, bridge: str, init_pid: int) -> None:
    """A cable from the bridge to eth0 in the network namespace of this process."""
    _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(init_pid))
    _ip("link", "set", link, "master", bridge, "up")


def set_link(link: str, state: str) -> None:
    """`down` loses what is sent, as a pulled cable does: nothing is refused or reset."""
    _ip("link", "set", link, state)


def remove(interface: str) -> None:
    """Gone afterwards, whether or not it was there. A namespace that dies takes its cable along, in its own time."""
    try:
        _ip("link", "delete", interface)
    except LabError:
        if interface in names():
            raise
