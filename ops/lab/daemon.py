"""The configuration of a host's libvirtd: the same hypervisor without the machine's services around it."""

from pathlib import Path

from ops.lab.state import HostState, LabState

#: No systemd, no virtlogd, no security module in a host, and guests run as root because the lab's files are root's.
#: remember_owner off: it stores owners in extended attributes, which not every file system under a lab has.
_QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
"""

#: Hosts share the machine's SMBIOS, whose UUID libvirt takes for its own: two such hosts refuse a migration
#: ("to the same host"), so each is given one.
_LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""

#: What a host has for itself. All of /run, so that no daemon's socket or pid file of the machine is in sight.
PRIVATE = (
    "/run",
    "/etc/hosts",
    "/etc/libvirt",
    "/var/cache/libvirt",
    "/var/lib/libvirt",
    "/var/log/libvirt",
    "/var/lib/freezeframe",
)
_FILES = frozenset({"/etc/hosts"})


def make_tree(root: Path, state: LabState, host: HostState) -> None:
    """A host's own files, under its directory in the lab, at the paths they have inside."""
    for name in PRIVATE:
        path = root / name.lstrip("/")
        (path.parent if name in _FILES else path).mkdir(parents=True, exist_ok=True)
    for name in ("run/lock", "run/freezeframe", "images"):
        (root / name).mkdir()
    (root / "etc/libvirt/qemu.conf").write_text(_QEMU_CONF)
    (root / "etc/libvirt/libvirtd.conf").write_text(_LIBVIRTD_CONF.format(uuid=host.uuid))
    (root / "etc/hosts").write_text(hosts_file(state))


def hosts_file(state: LabState) -> str:
    """Hosts know one another and the machine by name; there is no name server to ask."""
    lines = ["127.0.0.1 localhost", f"{state.address} machine"]
    return "".join(f"{line}\n" for line in [*lines, *(f"{host.address} {host.name}" for host in state.hosts)])
