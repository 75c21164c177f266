"""A guest that changes while the hosts wait for each other: found when it runs again, and never labelled as if it had not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import libvirt
import pytest

from ops.lab import Lab, blank
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain

from .command import Command
from .inventory import one_more_guest, published
from .muster import mustering, prepared
from .traces import traces

pytestmark = pytest.mark.case("P5")

FAILED, REFUSED, PARTIAL = 1, 3, 10
HOST = "host-a"


@pytest.fixture
def changing(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest of host-a that nobody else needs."""
    with one_more_guest(system, lab, HOST, "changing", blank(1, 64)) as guest:
        yield guest


def attach(guest: Guest) -> None:
    image = guest.folder / "database.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "16M"], check=True)
    guest.domain.attachDeviceFlags(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>"
        "<target dev='vdb' bus='virtio'/></disk>",
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )


@pytest.mark.parametrize("policy", ["all", "degrade"])
def test_a_disk_that_is_attached_in_the_muster_is_named_and_its_guest_takes_no_part(
    system: System, command: Command, changing: Guest, policy: str
) -> None:
    words = ("capture", changing.name, "gamma", "--policy", policy)
    with mustering(system, lambda: command.begin(*words)) as capturing:
        attach(changing)
    outcome = command.finish(capturing)
    if policy == "all":
        assert outcome.code == FAILED, outcome.stderr
        fault = outcome.error
    else:
        assert outcome.code == PARTIAL, outcome.stderr
        (fault,) = outcome.answer["faults"]
        assert [(one["guest"], one["consistency"]) for one in outcome.answer["guests"]] == [("gamma", "group")]
    assert (fault["code"], fault["guest"]) == ("disks-changed", changing.name)
    assert "disk vdb (" in fault["message"]
    assert backup.current_socket(Domain(changing.domain)) is None
    again = command("capture", changing.name, "gamma", "--skip-disk", "changing:vdb")
    assert again.answer["consistency"] == "group"


def test_a_new_layer_over_a_disk_in_the_muster_is_named(system: System, command: Command, changing: Guest) -> None:
    """Its bitmaps stay in the layer below: no increment could be built upon what is read now."""
    with mustering(system, lambda: command.begin("capture", changing.name, "gamma")) as capturing:
        changing.domain.snapshotCreateXML(
            "<domainsnapshot><name>layer</name></domainsnapshot>",
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
        )
    outcome = command.finish(capturing)
    assert outcome.code == FAILED, outcome.stderr
    assert outcome.error["code"] == "disks-changed"
    assert "disk vda has another source" in outcome.error["message"]
    assert changing.fsfreeze_status() == "thawed"


def test_a_guest_that_was_started_anew_before_the_hold_is_not_held(
    system: System, command: Command, changing: Guest
) -> None:
    with prepared(system, lambda: command.begin("capture", changing.name, "gamma")) as capturing:
        changing.domain.destroy()
        changing.domain.create()
    outcome = command.finish(capturing)
    assert outcome.code == REFUSED, outcome.stderr
    assert (outcome.error["code"], outcome.error["guest"]) == ("guest-restarted", changing.name)
    changing.wait_ready()
    published(system, changing.name, "running")


@pytest.fixture
def lonely(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest of host-b that nobody else needs, and the only one there that is captured."""
    with one_more_guest(system, lab, "host-b", "lonely", blank(1, 64)) as guest:
        yield guest


@pytest.mark.case("G4")
# most of a minute each; what is found in the muster, the unit tests of the hold find as well
@pytest.mark.parametrize("when", ["before the hold", pytest.param("in the muster", marks=pytest.mark.long)])
def test_under_degrade_a_guest_alone_on_its_host_that_is_started_anew_costs_only_itself(
    system: System, command: Command, lonely: Guest, when: str
) -> None:
    """Its host meets the others without a guest: it broke the barrier, and nothing of any guest was captured."""

    def begin() -> subprocess.Popen[str]:
        return command.begin("capture", "alpha", "beta", lonely.name, "--policy", "degrade")

    keeping = prepared(system, begin) if when == "before the hold" else mustering(system, begin, waits="host-b")
    with keeping as capturing:
        lonely.domain.destroy()
        lonely.domain.create()
    outcome = command.finish(capturing)
    assert outcome.code == PARTIAL, outcome.stderr
    (fault,) = outcome.answer["faults"]
    assert (fault["code"], fault["guest"]) == ("guest-restarted", lonely.name)
    labels = {one["guest"]: one["consistency"] for one in outcome.answer["guests"]}
    assert labels == {"alpha": "group", "beta": "group"}
    assert backup.current_socket(Domain(lonely.domain)) is None
    lonely.wait_ready()
    wait_for("the thaw that no agent answered", lambda: not traces(system), 60.0)
    published(system, lonely.name, "running")
