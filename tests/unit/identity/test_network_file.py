"""A file on a network file system has a key that is the same on every host that has it mounted, and no other file's (P2)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freezeframe.network_key import network_keys
from freezeframe.storage_key import is_everywhere
from workers.identity import network_file
from workers.identity.network_file import keys_in, keys_of_file, keys_on_device, mount_of
from workers.identity.places import places_of

pytestmark = pytest.mark.case("P2")

DEVICE = os.makedev(0, 45)
FSID = "01234567-89ab-cdef-0123-456789abcdef"


def keys(
    kind: str, source: str, options: str = "rw", path: str = "i.img", *, root: str = "/", handle: str = ""
) -> frozenset[str]:
    """Return the keys of a file below /mnt/vm, where this is mounted."""
    line = f"36 35 0:45 {root} /mnt/vm rw,noatime shared:1 - {kind} {source} {options}"
    mount = mount_of(f"/mnt/vm/{path}", DEVICE, line)
    assert mount is not None
    return keys_in(mount, f"/mnt/vm/{path}", handle)


NFS = keys("nfs4", "store:/export", "rw,vers=4.2,addr=192.0.2.1,clientaddr=192.0.2.9")
CEPH = keys("ceph", "192.0.2.1:6789,192.0.2.2:6789:/vm")
NEW_CEPH = keys("ceph", f"admin@{FSID}.vms=/vm", "rw,mon_addr=192.0.2.1:3300/192.0.2.2:3300")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NFS, keys("nfs", "store:/export", "rw,vers=3,addr=192.0.2.1")),
        (NFS, keys("nfs4", "other-name:/export", "rw,addr=192.0.2.1")),
        (NFS, keys("nfs4", "Store.:/export", "rw,addr=192.0.2.77")),
        (NFS, keys("nfs4", "store:/", "rw", "export/i.img")),
        (keys("nfs4", "store:/", "rw", ".a/.i"), keys("nfs4", "store:/.a", "rw", ".i")),
        (keys("nfs4", "store:/export/deep"), keys("nfs4", "store:/export", "rw", "deep/i.img")),
        (NFS, keys("nfs4", "store:/export", "rw,port=0")),
        (NFS, keys("nfs4", "store:/export", "rw,port=2049")),
        (keys("nfs4", "[2001:db8::1]:/e"), keys("nfs4", "x:/e", "rw,addr=2001:db8:0::1")),
        (keys("nfs4", "store:/", "rw", "a", handle="1:ab"), keys("nfs", "store:/srv/nfs", "rw", "b", handle="1:ab")),
        (NFS, network_keys({"protocol": "nfs", "name": "/export/i.img", "servers": "store:"})),
        (
            keys("fuse.glusterfs", "store:/volume/sub"),
            network_keys({"protocol": "gluster", "name": "volume/sub/i.img", "servers": "store:24007"}),
        ),
        (keys("fuse.glusterfs", "store:volume"), keys("fuse.glusterfs", "store:/volume", root="/")),
        (keys("fuse.glusterfs", "store:/volume", root="/sub"), keys("fuse.glusterfs", "store:/volume/sub")),
        (
            keys("fuse.sshfs", "root@store:/vm"),
            network_keys({"protocol": "ssh", "name": "/vm/i.img", "servers": "store:22"}),
        ),
        (keys("cifs", "//store/VM"), keys("smb3", r"\134\134STORE\134vm")),
        (keys("cifs", "//store/vm/sub"), keys("cifs", "//store/vm", "rw", "sub/i.img")),
        (keys("cifs", "//store/vm", "rw,addr=192.0.2.1"), keys("cifs", "//192.0.2.1/vm")),
        (CEPH, keys("ceph", "192.0.2.2:3300,192.0.2.9:3300:/vm")),
        (CEPH, keys("ceph", "192.0.2.2:/", "rw", "vm/i.img")),
        (keys("ceph", "[2001:db8::1]:6789:/vm"), keys("ceph", "[2001:db8:0::1]:/vm")),
        (NEW_CEPH, keys("ceph", "192.0.2.1:6789:/vm", "rw,mds_namespace=vms")),
        (NEW_CEPH, keys("ceph", f"other@{FSID.upper()}.vms=/", "rw", "vm/i.img")),
        (keys("lustre", "192.0.2.1@tcp:192.0.2.2@tcp:/fs"), keys("lustre", "192.0.2.2@tcp,192.0.2.3@tcp:/fs/")),
        (keys("lustre", "m@o2ib:/fs/sub"), keys("lustre", "m@o2ib:/fs", "rw", "sub/i.img")),
    ],
)
def test_one_file_has_one_key_on_each_host(one: frozenset[str], other: frozenset[str]) -> None:
    assert {key for key in one & other if is_everywhere(key)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NFS, keys("nfs4", "store:/export", "rw", "j.img")),
        (NFS, keys("nfs4", "store:/other")),
        (NFS, keys("nfs4", "else:/export", "rw,addr=192.0.2.3")),
        (NFS, keys("nfs4", "store:/export", "rw,port=20490,addr=192.0.2.1")),
        (
            keys("nfs4", "store:/export", "rw", "a", handle="1:ab"),
            keys("nfs4", "store:/export", "rw", "b", handle="1:ac"),
        ),
        (keys("nfs4", "one:/export", "rw", "a", handle="1:ab"), keys("nfs4", "two:/export", "rw", "b", handle="1:ab")),
        (NFS, keys("cifs", "//store/export", "rw,addr=192.0.2.1")),
        (keys("cifs", "//store/vm", "rw", "i.img"), keys("cifs", "//store/vm", "rw", "I.img")),
        (keys("cifs", "//store/vm/sub"), keys("cifs", "//store/vmsub")),
        (keys("fuse.glusterfs", "store:/volume"), keys("fuse.glusterfs", "store:/other")),
        (CEPH, keys("ceph", "192.0.2.3:6789:/vm")),
        (CEPH, keys("ceph", "192.0.2.1:6789:/vm", "rw,mds_namespace=other")),
        (NEW_CEPH, keys("ceph", f"admin@{FSID}.other=/vm", "rw,mon_addr=192.0.2.1:3300")),
        (keys("lustre", "m@tcp:/fs"), keys("lustre", "m@tcp:/fs2")),
    ],
)
def test_two_files_have_none_in_common(one: frozenset[str], other: frozenset[str]) -> None:
    assert one
    assert other
    assert not one & other


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("ext4", "/dev/sda1"),
        ("tmpfs", "tmpfs"),
        ("overlay", "overlay"),
        ("virtiofs", "share"),
        ("fuse.ceph-fuse", "ceph-fuse"),
        ("nfs4", "odd"),
        ("fuse.sshfs", "root@store:vm"),
        ("ceph", "odd"),
        ("lustre", "odd"),
    ],
)
def test_what_says_nothing_of_other_hosts_has_no_key(kind: str, source: str) -> None:
    assert keys(kind, source) == frozenset()


def test_a_server_of_the_host_s_own_is_another_on_each_host() -> None:
    found = keys("nfs4", "localhost:/export", "rw,addr=127.0.0.1")
    assert found
    assert not any(map(is_everywhere, found))


def test_the_mount_is_the_last_over_the_longest_part_of_the_path_with_its_blanks() -> None:
    text = "\n".join(
        f"3{number} 35 {device} {root} {point} rw - nfs4 {source} rw"
        for number, (device, root, point, source) in enumerate(
            [
                ("0:45", "/", "/", "root:/"),
                ("0:45", "/", r"/mnt/v\040m", "below:/"),
                ("0:45", "/", r"/mnt/v\040m", r"s:/with\040blank"),
                ("0:46", "/", r"/mnt/v\040m/deep", "another:/"),
                ("0:45", "/", r"/mnt/v\040mx", "beside:/"),
            ]
        )
    )
    found = mount_of("/mnt/v m/deep/i.img", DEVICE, f"odd line\n{text}\n")
    assert found is not None
    assert (found.source, found.point) == ("s:/with blank", "/mnt/v m")
    assert keys_in(found, "/mnt/v m/deep/i.img") == frozenset({"network nfs s:2049 /with blank/deep/i.img"})
    assert mount_of("/mnt/v m/i.img", os.makedev(0, 47), text) is None


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in a directory that counts as mounted from a server."""
    image = tmp_path / "vm" / "i.img"
    image.parent.mkdir()
    image.write_bytes(b"x")
    number = image.stat().st_dev
    mountinfo = tmp_path / "mountinfo"
    line = f"36 35 0:{os.minor(number)} / {image.parent} rw - nfs4 store:/export rw,addr=192.0.2.1\n"
    mountinfo.write_text(line, encoding="utf-8")
    monkeypatch.setattr(network_file, "MOUNTINFO", mountinfo)
    monkeypatch.setattr(network_file, "file_handle", lambda _: "1:ab")
    monkeypatch.setattr(os, "major", lambda _: 0)
    return image


def test_a_disk_is_known_by_it_whichever_name_leads_to_the_file(mounted: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(mounted)
    wanted = {"network nfs store:2049 /export/i.img", "network nfs 192.0.2.1:2049 /export/i.img"}
    for path in (mounted, link):
        found = places_of(str(path), sys=tmp_path / "sys").keys
        assert wanted <= found
        assert "network nfs store:2049  handle=1:ab" in found


def test_a_file_whose_handle_is_not_told_has_the_others(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: str) -> str:
        raise OSError(95, "no handles here")

    monkeypatch.setattr(network_file, "file_handle", none)
    assert keys_of_file(str(mounted), mounted.stat()) == {
        "network nfs store:2049 /export/i.img",
        "network nfs 192.0.2.1:2049 /export/i.img",
    }


def test_a_file_on_a_block_device_is_not_looked_for_among_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_file, "MOUNTINFO", tmp_path / "none")
    monkeypatch.setattr(os, "major", lambda _: 8)
    assert keys_of_file(str(tmp_path), tmp_path.stat()) == frozenset()


@pytest.mark.parametrize(
    ("kind", "device", "found"),
    [
        (0x01161970, "lvm LVM-x ", {"network inode 7 of lvm LVM-x "}),  # GFS2
        (0x7461636F, "wwid naa.1 ", {"network inode 7 of wwid naa.1 "}),  # OCFS2
        (0x7461636F, None, set()),
        (0xEF53, "wwid naa.1 ", set()),  # ext4: one host at a time
    ],
)
def test_a_file_on_a_device_that_several_hosts_mount_at_once_is_known_by_its_inode(
    kind: int, device: str | None, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_file, "file_system_type", lambda _: kind)
    assert keys_on_device("/vm/i.img", 7, device) == found
    assert all(map(is_everywhere, found))
