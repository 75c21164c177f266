"""The two kinds of host: by whose packages its daemons and its guests' QEMU are.

    machine     this machine's own: libvirtd, which has every driver of libvirt
    debian13    those of Debian 13, from a tree (ops.modular): virtqemud and virtsecretd, each with its one driver, and QEMU 10

A host of Debian 13 has two views of one set of files. The daemons and the guests' QEMU see the tree as their root; all else on
the host, Freezeframe's workers included, sees the machine's root, as a worker in a container does.

    /                                    the tree                │ the machine's root
    /run  /etc/libvirt  /var/lib/libvirt …   the host's own, the same in both
    /dev  /proc  /sys  /tmp  /var/tmp        the same in both; the lab is under one of the last two
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ops import modular
from ops.lab.errors import LabError

ProfileName = Literal["machine", "debian13"]

#: The user that Debian's qemu.conf names; its package makes it.
QEMU_USER: Final = "libvirt-qemu"
#: Where both views of a host have the same files, besides those that each host has for itself.
SHARED: Final = ("/dev", "/proc", "/sys", "/tmp", "/var/tmp")  # noqa: S108 - bound, not written to
#: In a mount namespace of its own, whose root becomes the tree; nobody writes to the tree.
_ENTER: Final = """
tree=$1; shift
mount --bind "$tree" /mnt
mount -o remount,bind,ro /mnt
while [ "$1" != -- ]; do mount --rbind "$1" "/mnt$1"; shift; done
shift
cd /mnt
pivot_root . mnt
umount -l /mnt
exec "$@"
"""


@dataclass(frozen=True)
class Ids:
    """Of QEMU's user: its number, its group's, and its first group's, which may open /dev/kvm."""

    user: int
    group: int
    kvm: int


@dataclass(frozen=True)
class Profile:
    """Whose packages a host's daemons are of: `tree` is the root of another Debian, None this machine."""

    tree: Path | None

    @classmethod
    def named(cls, name: ProfileName) -> Profile:
        """Return a profile by its name; the tree is made if it is not there."""
        return cls(modular.ensure().root if name == "debian13" else None)

    @property
    def daemon(self) -> str:
        return "libvirtd" if self.tree is None else modular.DAEMON

    @property
    def companions(self) -> tuple[str, ...]:
        """What the daemon does not start by itself and outlives it; systemd would start each when it is first asked."""
        return ("virtlogd",) if self.tree is None else ("virtlogd", modular.SECRETS)

    @property
    def configured(self) -> tuple[str, ...]:
        """The daemons that take calls over libvirt's protocol, each with a configuration of its own."""
        return (self.daemon,) if self.tree is None else (self.daemon, modular.SECRETS)

    @property
    def socket(self) -> Path:
        """Where the daemon listens, below the host's root."""
        return Path("run/libvirt") / ("libvirt-sock" if self.tree is None else f"{self.daemon}-sock")

    @property
    def pid_file(self) -> Path:
        return Path("run") / f"{self.daemon}.pid"

    @property
    def log(self) -> Path:
        return Path("var/log/libvirt") / f"{self.daemon}.log"

    def command(self, argv: Sequence[str], private: Sequence[str]) -> list[str]:
        """Return the command line that runs a daemon in the view that it has; `private` is what the host has for itself."""
        if self.tree is None:
            return [*argv]
        spaces = ["unshare", "--mount", "--propagation", "private"]
        shown = [*SHARED, *(path for path in private if not Path(path).is_relative_to("/dev"))]
        return [*spaces, "sh", "-ec", _ENTER, "sh", str(self.tree), *shown, "--", *argv]

    def prepare(self, private: Sequence[str], files: frozenset[str]) -> None:
        """Make the tree have a place for what a host has for itself."""
        if self.tree is None:
            return
        for path in private:
            place = self.tree / path.lstrip("/")
            if path in files:
                place.touch()
            else:
                place.mkdir(parents=True, exist_ok=True)

    def ids(self) -> Ids:
        """Return the numbers of QEMU's user there. Raises LabError if there is none."""
        if self.tree is None:
            return _own_ids()
        users, groups = _table(self.tree / "etc/passwd"), _table(self.tree / "etc/group")
        return Ids(
            user=int(users[QEMU_USER][2]),
            group=int(groups[QEMU_USER][2]),
            kvm=int(users[QEMU_USER][3]),
        )


def _own_ids() -> Ids:
    try:
        user, group = pwd.getpwnam(QEMU_USER), grp.getgrnam(QEMU_USER)
    except KeyError:
        raise LabError(f"there is no user {QEMU_USER}: install libvirt-daemon-system") from None
    return Ids(user=user.pw_uid, group=group.gr_gid, kvm=user.pw_gid)


def _table(path: Path) -> dict[str, list[str]]:
    """Return the lines of passwd(5) or group(5), by their names."""
    return {fields[0]: fields for fields in (line.split(":") for line in path.read_text().splitlines())}
