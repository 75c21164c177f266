"""An RBD image that QEMU opens on one host and the kernel maps on another is known to be one, where that is certain (P2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.storage_key import is_everywhere
from workers.fitness import uses_everywhere
from workers.fitness.sharing import DiskUse
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import FakeGuest, domain_xml
from workers.identity import rbd
from workers.identity.rbd import Cluster, cluster_of, keys_of_device
from workers.identity.uses import disk_uses

pytestmark = pytest.mark.case("P2")

FSID = "01234567-89ab-cdef-0123-456789abcdef"
MAPPED = {"cluster_fsid": FSID, "pool": "pool", "image_id": "1", "name": "image", "current_snap": "-"}
CONF = f"[global]\n  fsid = {FSID.upper()}  # its id\n  mon_host = [v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0] mon2\n"


@pytest.fixture(autouse=True)
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's ceph.conf, which is not there yet."""
    found = tmp_path / "ceph.conf"
    monkeypatch.setattr(rbd, "CEPH_CONF", found)
    return found


def mapped(tmp_path: Path, info: str = "", **facts: str) -> frozenset[str]:
    """Return the keys of the device that another host's kernel has mapped."""
    directory = tmp_path / "sys/bus/rbd/devices/3"
    directory.mkdir(parents=True)
    if info:
        (directory / "config_info").write_text(f"{info}\n", encoding="utf-8")
    return keys_of_device({**MAPPED, **facts}, Path("/sys/devices/rbd/3/block/rbd3"), tmp_path / "sys")


def opened(monkeypatch: pytest.MonkeyPatch, inside: str = "", name: str = "pool/image") -> DiskUse:
    """Return the use of a guest whose QEMU opens an image."""
    source = f"<source protocol='rbd' name='{name}'>{inside}</source>"
    xml = f"<disk type='network' device='disk'><driver type='raw'/>{source}<target dev='vda'/></disk>"
    guest = FakeGuest(domain_xml(xml))
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [Domain(guest)])
    (found,) = disk_uses(Hypervisor("test:///default"))
    return found


HOSTS = "<host name='192.0.2.1' port='6789'/><host name='mon3'/>"
INFO = "192.0.2.1:6789,192.0.2.9:6789 name=admin,key=client.admin pool image -"


@pytest.mark.parametrize(
    ("inside", "text", "info", "known"),
    [
        (HOSTS, "", INFO, True),  # a monitor in common
        (HOSTS, "", "192.0.2.1:3300/0 name=admin pool image -", True),
        ("<host name='2001:db8::1' port='6789'/>", "", "[2001:db8:0::1]:6789 name=admin pool image -", True),
        ("<host name='2001:db8::1'/>", "[global]\nmon_host = [2001:db8::1]\nfsid = " + FSID, "", True),
        ("<host name='mon3' port='3300'/>", "", "mon3 name=admin pool image -", True),
        (HOSTS, "", "192.0.2.9:6789 name=admin pool image -", False),
        (HOSTS, "", "", False),  # another cluster may have that name
        ("", CONF, "", True),  # the cluster's id
        ("", CONF.replace(FSID.upper(), FSID.replace("0", "f")), "", False),
        ("", "[global]\nmon host = 192.0.2.1\n", INFO, True),
        (HOSTS, CONF, "", True),  # these monitors are that cluster's
        ("<host name='elsewhere'/>", CONF, INFO, False),  # and these are not
        ("", "", INFO, False),
    ],
)
def test_it_is_known_on_another_host_by_a_monitor_or_by_the_cluster(
    inside: str,
    text: str,
    info: str,
    known: bool,  # noqa: FBT001
    conf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if text:
        conf.write_text(text, encoding="utf-8")
    shown = {key for told in uses_everywhere([opened(monkeypatch, inside)]) for key in told.shows}
    assert bool(shown & mapped(tmp_path, info)) == known


def test_two_qemus_on_two_hosts_know_it_by_a_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = opened(monkeypatch, HOSTS), opened(monkeypatch, "<host name='MON3.' port='3300'/>")
    assert {key for key in one.writes & other.writes if is_everywhere(key)}


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("pool/other", {}),
        ("other/image", {}),
        ("pool/image", {"pool_ns": "space"}),
        ("pool/space/image", {}),
        ("pool/image", {"current_snap": "yesterday"}),
    ],
)
def test_another_image_pool_namespace_or_snapshot_is_another(
    name: str, facts: dict[str, str], conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf.write_text(CONF, encoding="utf-8")
    assert not opened(monkeypatch, name=name).shows & mapped(tmp_path, INFO, **facts)


@pytest.mark.parametrize(
    ("name", "inside", "facts"),
    [
        ("pool/space/image", "", {"pool_ns": "space"}),
        ("pool/image", "<snapshot name='yesterday'/>", {"current_snap": "yesterday"}),
    ],
)
def test_the_same_namespace_or_snapshot_is_the_same(
    name: str, inside: str, facts: dict[str, str], conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf.write_text(CONF, encoding="utf-8")
    both = opened(monkeypatch, inside, name).shows & mapped(tmp_path, **facts)
    assert {key for key in both if is_everywhere(key)}


def test_the_configuration_that_the_source_names_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.conf"
    own.write_text(CONF, encoding="utf-8")
    assert f"network rbd {FSID} pool/image" in opened(monkeypatch, f"<config file='{own}'/>").writes


def test_a_partition_of_a_mapped_image_is_a_part_of_it_and_not_the_image(tmp_path: Path) -> None:
    """Else two guests with a partition each would be taken for writers to one disk."""
    assert mapped(tmp_path, partition="1") == frozenset()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CONF, Cluster(FSID, frozenset({"192.0.2.1:6789", "mon2:6789"}))),
        ("fsid=x\nmon-host=a,b:3300;no\n", Cluster("x", frozenset({"a:6789", "b:6789"}))),
        (
            "[global]\nmon host = [2001:db8::1]:6789,[v2:[2001:db8::2]:3300/0]\n",
            Cluster("", frozenset({"2001:db8::1:6789", "2001:db8::2:6789"})),
        ),
        ("[mon.a]\nmon_host = a\n[client]\nmon_host = b\n", Cluster("", frozenset({"b:6789"}))),
        ("; fsid = x\n# mon_host = a\n", Cluster()),
        ("", Cluster()),
    ],
)
def test_what_a_ceph_conf_says(text: str, found: Cluster) -> None:
    assert cluster_of(text) == found


def test_what_the_kernel_has_not_mapped_from_a_cluster_is_no_image(tmp_path: Path) -> None:
    assert keys_of_device({"WWID": "x"}, Path("/sys/block/sda"), tmp_path) == frozenset()
