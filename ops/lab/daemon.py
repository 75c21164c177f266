"""The configuration of a host's daemons: as Debian ships them, but for the machine's services around them.

libvirtd     or virtqemud: system instance, QEMU as libvirt-qemu, mount namespaces, dynamic ownership
virtlogd     keeps the guests' consoles and QEMU's own log; systemd would start it when libvirtd first asks
virtsecretd  beside virtqemud: keeps passphrases, which libvirtd does itself
"""

import os
import pwd
import stat
from pathlib import Path

from ops.lab.errors import LabError
from ops.lab.profile import QEMU_USER, Ids, Profile
from ops.lab.state import HostState, LabState

#: Debian's own qemu.conf sets nothing: QEMU runs as libvirt-qemu, libvirt gives it the files that it needs and takes them
#: back, each QEMU has a /dev of its own, and a security driver is used where the kernel has one. Each line departs from that.
#: There is no systemd here to make a scope for a guest, and the machine's own control groups are not the lab's.
_QEMU_CONF = """\
cgroup_controllers = []
"""

#: libvirt remembers whom a file belonged to in trusted extended attributes, which a file system may not have.
_FORGET_OWNERS = """\
remember_owner = 0
"""

#: Hosts share the machine's SMBIOS, whose UUID libvirt takes for its own: two such hosts refuse a migration
#: ("to the same host"), so each is given one.
_DAEMON_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
log_outputs = "2:file:/{log}"
"""

#: What a host has for itself. All of /run, so that no daemon's socket or pid file of the machine is in sight.
PRIVATE: tuple[str, ...] = (
    "/run",
    "/etc/hosts",
    "/etc/libvirt",
    "/var/cache/libvirt",
    "/var/lib/libvirt",
    "/var/log/libvirt",
    "/var/lib/freezeframe",
)
#: Hosts share the machine's id, too, which a Freezeframe host is known by. Where there is none, there is nothing to cover.
if Path("/etc/machine-id").is_file():
    PRIVATE = (*PRIVATE, "/etc/machine-id")
#: As udev gives it on a stock host: to the group that Debian's QEMU has. A machine without udev has it for root alone, and
#: then libvirtd finds KVM when it starts a QEMU to ask for its abilities, finds it gone when it looks by itself, and asks
#: anew for each answer: 0.7 s of CPU a time. [qemu_capabilities.c virQEMUCapsIsValid]
_KVM = Path("/dev/kvm")
if _KVM.is_char_device():
    PRIVATE = (*PRIVATE, str(_KVM))
_FILES = frozenset({"/etc/hosts", "/etc/machine-id", str(_KVM)})

#: Of directories that QEMU's user passes through, and looks into no more than anybody.
PASSABLE = 0o711


def make_tree(root: Path, state: LabState, host: HostState) -> None:
    """A host's own files, under its directory in the lab, at the paths they have inside."""
    profile = Profile(host.tree)
    profile.prepare(PRIVATE, _FILES)
    ids = profile.ids()
    for name in PRIVATE:
        path = root / name.lstrip("/")
        (path.parent if name in _FILES else path).mkdir(parents=True, exist_ok=True)
    for name in ("run/lock", "run/freezeframe", "images"):
        (root / name).mkdir()
    for path in (root, root / "images"):
        path.chmod(PASSABLE)
    _make_libvirts_directories(root / "var/lib/libvirt", ids)
    (root / "etc/libvirt/qemu.conf").write_text(_qemu_conf(root))
    for name in profile.configured:
        log = profile.log.with_name(f"{name}.log")
        (root / f"etc/libvirt/{name}.conf").write_text(_DAEMON_CONF.format(uuid=host.uuid, log=log))
    (root / "etc/hosts").write_text(hosts_file(state))
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/machine-id").write_text(f"{host.uuid.replace('-', '')}\n")
    if str(_KVM) in PRIVATE:
        _make_kvm(root / str(_KVM).lstrip("/"), ids)


def _make_kvm(path: Path, ids: Ids) -> None:
    path.parent.mkdir(exist_ok=True)
    os.mknod(path, stat.S_IFCHR | 0o660, _KVM.stat().st_rdev)
    path.chmod(0o660)  # whatever the umask
    os.chown(path, 0, ids.kvm)


def _make_libvirts_directories(library: Path, ids: Ids) -> None:
    """With the owners and modes of Debian's package, which are narrower than those that libvirtd gives."""
    for name in ("boot", "images"):
        (library / name).mkdir()
        (library / name).chmod(PASSABLE)
    (library / "qemu").mkdir()
    (library / "qemu").chmod(0o750)
    os.chown(library / "qemu", ids.user, ids.group)


def _qemu_conf(root: Path) -> str:
    return _QEMU_CONF if has_trusted_attributes(root) else _QEMU_CONF + _FORGET_OWNERS


def has_trusted_attributes(directory: Path) -> bool:
    """Return True if libvirt can remember the owners of files in `directory`."""
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "trusted.freezeframe.probe", b"1")
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


def check_passable(directory: Path) -> None:
    """Raise LabError if QEMU's user cannot pass through `directory` and all above it."""
    try:
        user = pwd.getpwnam(QEMU_USER)
    except KeyError:
        raise LabError(f"there is no user {QEMU_USER}: install libvirt-daemon-system") from None
    groups = os.getgrouplist(QEMU_USER, user.pw_gid)
    for path in (directory, *directory.parents):
        found = path.stat()
        bits = 0o100 if found.st_uid == user.pw_uid else 0o010 if found.st_gid in groups else 0o001
        if not found.st_mode & bits:
            raise LabError(f"QEMU runs as {QEMU_USER}, which cannot pass through {path}: chmod o+x {path}")


def hosts_file(state: LabState) -> str:
    """Hosts know one another and the machine by name; there is no name server to ask."""
    lines = ["127.0.0.1 localhost", f"{state.address} machine"]
    return "".join(f"{line}\n" for line in [*lines, *(f"{host.address} {host.name}" for host in state.hosts)])
