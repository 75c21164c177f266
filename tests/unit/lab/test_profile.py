"""Whose packages a host's daemons are of: names and paths, and the view of the files that a daemon gets."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ops.lab import LabError, LabSpec
from ops.lab.plan import check_place
from ops.lab.profile import SHARED, Profile

PASSWD = "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:102:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin\n"  # noqa: S105 - none
GROUP = "root:x:0:\nkvm:x:102:\nlibvirt-qemu:x:64055:libvirt-qemu\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root directory with a place for what both views share, and for the machine's programs."""
    root = tmp_path / "tree"
    for path in (*SHARED, "/etc", "/mnt", "/run", "/usr"):
        (root / path.lstrip("/")).mkdir(parents=True)
    for path in ("bin", "lib", "lib64", "sbin"):
        (root / path).symlink_to(f"usr/{path}")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    return root


def test_the_machines_own_daemon_is_started_as_it_is() -> None:
    own = Profile(None)
    assert own.command(["libvirtd", "--daemon"], ["/run"]) == ["libvirtd", "--daemon"]
    assert [str(path) for path in (own.socket, own.pid_file, own.log)] == [
        "run/libvirt/libvirt-sock",
        "run/libvirtd.pid",
        "var/log/libvirt/libvirtd.log",
    ]
    assert own.configured == ("libvirtd",)
    assert own.companions == ("virtlogd",)


def test_the_modular_daemon_has_paths_of_its_own(tree: Path) -> None:
    other = Profile(tree)
    assert [str(path) for path in (other.socket, other.pid_file, other.log)] == [
        "run/libvirt/virtqemud-sock",
        "run/virtqemud.pid",
        "var/log/libvirt/virtqemud.log",
    ]


def test_passphrases_are_another_modular_daemons(tree: Path) -> None:
    """It takes libvirt's calls as well, so it is configured as well; systemd would start it."""
    other = Profile(tree)
    assert other.configured == ("virtqemud", "virtsecretd")
    assert "virtsecretd" in other.companions


def test_the_numbers_of_qemus_user_are_the_trees(tree: Path) -> None:
    """A group's number is of each installation; the machine's own group of that number may be another one."""
    ids = Profile(tree).ids()
    assert (ids.user, ids.group, ids.kvm) == (64055, 64055, 102)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts need root")
def test_a_daemon_sees_the_tree_as_its_root_and_the_hosts_own_files_in_it(tree: Path, tmp_path: Path) -> None:
    """It can write to what the host has for itself, and to nothing of the tree, which all labs share."""
    private = ["/run", "/usr", "/dev/null"]
    script = 'cat /etc/passwd; echo "$0"; touch /run/made; touch /etc/made 2>/dev/null || echo read-only; ls /mnt'
    inside = Profile(tree).command(["sh", "-c", script, "an argument"], private)
    (tmp_path / "run").mkdir()
    host = ["unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /run; exec "$@"', str(tmp_path / "run"), *inside]
    done = subprocess.run(host, check=True, capture_output=True, text=True)
    assert done.stdout == f"{PASSWD}an argument\nread-only\n"
    assert (tmp_path / "run/made").exists()
    assert not (tree / "etc/made").exists()


def test_the_last_profile_is_that_of_all_hosts_that_follow() -> None:
    spec = LabSpec(hosts=("host-a", "host-b", "host-c"), profiles=("debian13", "machine"))
    assert [spec.profile(host) for host in spec.hosts] == ["debian13", "machine", "machine"]
    assert {LabSpec.of(hosts=2).profile(host) for host in LabSpec.of(hosts=2).hosts} == {"machine"}


def test_a_lab_that_another_debian_would_not_see_is_refused() -> None:
    directory = Path("/srv/lab")
    with pytest.raises(LabError, match=r"/srv/lab is not in a host of another Debian.*/var/tmp"):
        check_place(directory, LabSpec(profiles=("machine", "debian13")))
    check_place(directory, LabSpec())
    check_place(Path(SHARED[-1]) / "lab", LabSpec(profiles=("debian13",)))
