"""Hold and transfer tell what other hosts may have to compare: writers that came since, and nothing twice (P2)."""

from __future__ import annotations

import pytest

from freezeframe.contract.result import HoldResult, PrepareResult, StorageUse
from freezeframe.contract.words import Step
from tests.unit.workers.hold_site import CAPTURE, Site, results
from tests.unit.workers.read_site import Machine, stored
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_guest import FakeGuest, disk_xml, domain_xml
from workers.hypervisor.fake_held_guest import HeldFake
from workers.journal import CaptureJournal
from workers.steps.prepared import told_uses

NEW = "00000000-0000-4000-8000-00000000000e"
LUN = "iscsi iqn.2026-01.org.example:t/1"
WRITER = StorageUse(guest_uuid=NEW, guest="new", target="vdn", writes=(LUN,))

pytestmark = pytest.mark.case("P2")


def new_xml(*disks: str) -> str:
    source = "<source protocol='iscsi' name='iqn.2026-01.org.example:t/1'><host name='s'/></source>"
    lun = f"<disk type='network' device='disk'><driver type='raw'/>{source}<target dev='vdn'/></disk>"
    return domain_xml(lun, *disks, name="new", uuid=NEW)


@pytest.fixture
def starts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have libvirt list a guest more than were prepared, which writes to a LUN."""
    fakes = [*site.fakes.values(), HeldFake(new_xml(disk_xml("vdl", "/local.img")), uuid=NEW, label="new")]
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [one.domain() for one in fakes])


def prepare_told(journal: CaptureJournal, *uses: StorageUse) -> None:
    (path,) = journal.result_paths(Step.PREPARE)
    result = PrepareResult.model_validate_json(path.read_text())
    journal.store_result(Step.PREPARE, "", result.model_copy(update={"uses": uses}).model_dump_json())


@pytest.mark.usefixtures("starts")
def test_a_writer_that_came_since_prepare_is_told_with_the_hold_and_no_local_one_is(site: Site) -> None:
    prepare_told(site.hosts["host-b"].journal.of(CAPTURE), WRITER)
    held = results(site.hold())
    assert [one.uses for one in held] == [(WRITER,), ()]
    assert [one.writers_unseen for one in held] == ["", ""]
    text = held[1].model_dump_json()
    assert "uses" not in text  # nothing new, nothing sent: and a version that does not know the field reads the result
    assert HoldResult.model_validate_json(text) == held[1]


def test_a_host_that_cannot_see_them_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Hypervisor) -> list[object]:
        raise HypervisorError("Listing guests failed: no.")

    monkeypatch.setattr(Hypervisor, "domains", away)
    assert [one.writers_unseen for one in results(site.hold())] == ["Listing guests failed: no"] * 2


def starts_meanwhile(machine: Machine) -> None:
    machine.meanwhile = lambda: machine.running.append(FakeGuest(new_xml(), uuid=NEW, label="new"))


def test_a_writer_that_came_since_the_hold_is_told_with_the_transfer(host: Host, machine: Machine) -> None:
    starts_meanwhile(machine)
    assert stored(host).uses == (WRITER,)


@pytest.mark.parametrize("step", [Step.PREPARE, Step.HOLD])
def test_what_an_earlier_step_has_told_is_not_told_again(host: Host, machine: Machine, step: Step) -> None:
    starts_meanwhile(machine)
    kind = PrepareResult if step is Step.PREPARE else HoldResult
    result = kind(capture_id=CAPTURE, host_id="host-a", uses=(WRITER,))
    host.journal.of(CAPTURE).store_result(step, "", result.model_dump_json())
    assert stored(host).uses == ()


def test_of_a_result_that_cannot_be_read_all_is_told_again(host: Host) -> None:
    journal = host.journal.of(CAPTURE)
    held = HoldResult(capture_id=CAPTURE, host_id="host-a", uses=(WRITER,))
    journal.store_result(Step.HOLD, "", held.model_dump_json())
    journal.store_result(Step.PREPARE, "", "{")
    assert told_uses(journal) == (WRITER,)
    journal.store_result(Step.HOLD, "", "{")
    assert told_uses(journal) == ()


def test_a_libvirt_that_is_away_when_a_disk_was_read_tells_nothing(host: Host, machine: Machine) -> None:
    def goes() -> None:
        machine.away = HypervisorError("away")

    machine.meanwhile = goes
    found = stored(host)
    assert (found.uses, found.writers_unseen != "") == ((), True)
