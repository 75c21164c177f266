"""What captures have left behind, looked for from outside: in libvirt, in the guests and on the hosts' disks."""

from __future__ import annotations

from pathlib import Path

import libvirt
from lxml import etree

from ops.lab.guest import Guest
from ops.system import System
from workers.hypervisor.checkpoint import checkpoint_name


def traces(system: System) -> list[str]:
    """Everything that should not be there; empty if each guest and host is as it was found."""
    ours = checkpoint_name(str(system.repository.config.id), "")
    found = [
        trace for guest in system.lab.guests.values() if guest.domain.isActive() for trace in _of_guest(guest, ours)
    ]
    for host in system.lab.hosts.values():
        directory = system.directory / host.name
        found += [f"{host.name}: claim {path.name}" for path in (directory / "state" / "claims").iterdir()]
        found += [f"{host.name}: lease {path.name}" for path in (directory / "state" / "leases").iterdir()]
        found += [f"{host.name}: open journal {path.name}" for path in _open_journals(directory)]
        found += [f"{host.name}: scratch {path.name}" for path in (directory / "scratch").iterdir()]
        secrets = (secret.XMLDesc() for secret in host.connection().listAllSecrets())
        found += [f"{host.name}: passphrase {xml}" for xml in secrets if "freezeframe" in xml]
        sockets = [path for path in (host.root / "var/lib/libvirt/qemu").glob("domain-*/*") if path.is_socket()]
        found += [f"{host.name}: socket {path}" for path in sockets if path.name != "monitor.sock"]
    return found


def _open_journals(directory: Path) -> list[Path]:
    return [path for path in (directory / "state" / "captures").iterdir() if not (path / "ended").exists()]


def _of_guest(guest: Guest, ours: str) -> list[str]:
    """`ours` is how this system's checkpoints begin; another repository's are none of its business."""
    found = []
    domain = guest.domain
    if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
        found.append(f"{guest.name}: not running")
    try:
        found += [f"{guest.name}: has a job"] if domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE else []
    except libvirt.libvirtError as error:
        found.append(f"{guest.name}: {error}")
    definition = etree.fromstring(domain.XMLDesc())
    if definition.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is not None:
        found += [f"{guest.name}: frozen"] if guest.fsfreeze_status() != "thawed" else []
    sources = {source.get("file") for source in definition.iterfind("devices/disk[@device='disk']/source")}
    own = {str(path) for path in guest.folder.iterdir()}
    found += [f"{guest.name}: runs on {source}" for source in sorted(filter(None, sources)) if source not in own]
    checkpoints = [name for one in domain.listAllCheckpoints() if (name := one.getName()).startswith(ours)]
    if len(checkpoints) > 1:
        found.append(f"{guest.name}: more than one checkpoint: {checkpoints}")
    return found
