"""Where a lab may be, and what it is called before it exists."""

import uuid
from pathlib import Path

from ops.lab import network
from ops.lab.daemon import PRIVATE
from ops.lab.errors import LabError
from ops.lab.kit import Kit, accelerator
from ops.lab.profile import SHARED, Profile
from ops.lab.spec import LabSpec
from ops.lab.state import HostState, LabState

#: sun_path of unix(7) has 108 bytes, and the longest name under a host is the read-only socket of a modular daemon.
_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET = "run/libvirt/virtqemud-sock-ro"


def check_place(directory: Path, spec: LabSpec) -> None:
    """Raises LabError where a lab cannot be: in use, hidden by what hosts have for themselves, too long a path."""
    if directory.exists() and any(directory.iterdir()):
        raise LabError(f"{directory} is not empty")
    covered = [name for name in PRIVATE if directory.is_relative_to(name)]
    if covered:
        raise LabError(f"{directory} is inside {covered[0]}, which every host has for itself")
    if {*spec.profiles} != {"machine"} and not any(directory.is_relative_to(path) for path in SHARED):
        raise LabError(f"{directory} is not in a host of another Debian, which has of the machine {', '.join(SHARED)}")
    for host in spec.hosts:
        socket = directory / host / _LONGEST_SOCKET
        if len(bytes(socket)) > _SOCKET_PATH_BYTES:
            raise LabError(f"{socket} is longer than the {_SOCKET_PATH_BYTES} bytes of a Unix socket's path")


def first_state(spec: LabSpec, kit: Kit) -> LabState:
    """Names, addresses and ids; nothing of it exists yet."""
    subnet = spec.subnet or network.free_subnet()
    hosts = [
        HostState(
            name=name,
            number=number,
            address=subnet[network.FIRST_HOST + number],
            uuid=str(uuid.uuid4()),
            tree=Profile.named(spec.profile(name)).tree,
        )
        for number, name in enumerate(spec.hosts)
    ]
    return LabState(
        lab_id=uuid.uuid4().hex[:6],
        subnet=subnet,
        hosts=hosts,
        kit=kit.directory,
        accelerator=spec.accelerator or accelerator(kit),
    )
