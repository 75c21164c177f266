"""A change between the look before the muster and the end of a hold is found when the guests run (P5, P1)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from freezeframe.barrier import Gate
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.proof import GuestProof, consistency
from freezeframe.contract.result import HoldResult, PreparedDisk, PreparedGuest, PrepareResult, SkippedDisk
from freezeframe.contract.words import Consistency, Step
from freezeframe.errors import FreezeframeError
from orchestrator.decision import HOLD_SLACK_S
from tests.unit.workers.guard_site import until
from tests.unit.workers.hold_site import CAPTURE, FREEZE, PAUSE, Site, proof_of, results
from tests.unit.workers.test_guest_in_hold import deadline, guest_of
from workers.fitness import DiskUse
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_guest import UUID, disk_xml, domain_xml, libvirt_error
from workers.hypervisor.fake_held_guest import HeldFake, no_answer
from workers.identity.read import Unknown
from workers.identity.uses import disk_uses
from workers.scratch.open_backups import begun_guests
from workers.steps import drift, premises
from workers.steps import hold as step
from workers.steps.guest_in_hold import HeldGuest, Phase
from workers.steps.window import LONGEST_GIVE_UP_S

Change = Callable[[HeldFake], None]
IN_USE = 38  # VIR_ERR_SYSTEM_ERROR


@pytest.fixture
def in_muster(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], HeldFake]:
    """Have something happen to the first guest of host-a while it waits for host-b at the muster."""

    def set_up(change: Change) -> HeldFake:
        meet, changed = step._muster, site.guests["host-a"][0]

        def muster(gate: Gate, order: HoldOrder, deadline: float) -> None:
            if order.host_id == "host-a":
                change(changed)
            meet(gate, order, deadline)

        monkeypatch.setattr(step, "_muster", muster)
        return changed

    return set_up


def redefined(*disks: str, start: str = "") -> Change:
    def change(fake: HeldFake) -> None:
        fake.live_xml = domain_xml(*disks, name=fake.label, uuid=fake.uuid).replace("<domain ", f"<domain {start}")

    return change


def own(fake: HeldFake, more: str = "") -> str:
    return disk_xml("vda", f"/{fake.label}.img", more=more)


def attached(fake: HeldFake) -> None:
    redefined(own(fake), disk_xml("vdb", "/database.img"))(fake)


def detached(fake: HeldFake) -> None:
    redefined(disk_xml("vdb", "/database.img"))(fake)
    fake.refuses_begin = True


def pivoted(fake: HeldFake) -> None:
    redefined(disk_xml("vda", f"/{fake.label}.overlay", driver="qcow2"))(fake)


def shared(fake: HeldFake) -> None:
    redefined(own(fake, "<shareable/>"))(fake)


def resized(fake: HeldFake) -> None:
    fake.size_bytes *= 2


def restarted(fake: HeldFake) -> None:
    redefined(own(fake), start="id='8' ")(fake)


def away(fake: HeldFake) -> None:
    """Have libvirt refuse to tell the definition from the begin of the backup on."""
    tell = fake.XMLDesc

    def desc(flags: int = 0) -> str:
        if fake.has_backup:
            raise libvirt_error(IN_USE)
        return tell(flags)

    fake.XMLDesc = desc  # type: ignore[method-assign]


@pytest.mark.case("P5")
@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (attached, "disks-changed", "disk vdb (/database.img) was attached"),
        (detached, "disks-changed", "disk vda was detached"),
        (pivoted, "disks-changed", "disk vda has another source: /guest-11.overlay instead of /guest-11.img"),
        (shared, "disks-changed", "disk vda is shareable now"),
        (resized, "disks-changed", "disk vda was resized from 1048576 to 2097152 bytes"),
        (restarted, "guest-restarted", "guest-11 was stopped and started again"),
        (away, "hypervisor", "guest-11"),
    ],
)
def test_a_guest_that_changed_during_the_muster_takes_no_part(
    site: Site, in_muster: Callable[[Change], HeldFake], change: Change, code: str, said: str, *, everyone: bool
) -> None:
    changed = in_muster(change)
    held = results(site.hold(all_or_nothing=everyone))
    (fault,) = held[0].guest_faults
    assert (fault.guest_uuid, fault.fault.code) == (changed.uuid, code)
    assert said in fault.fault.message
    assert code == "hypervisor" or "let go" in fault.fault.advice
    assert consistency(proof_of(held)) is not Consistency.GROUP
    begun = {guest.guest_uuid for one in held if one.proof for guest in one.proof.guests if guest.begun_ns}
    assert changed.uuid not in begun
    assert len(begun) == 3 or (everyone and change is detached)  # the begin that fails lets the others go
    assert site.held_ones() == []


@pytest.mark.case("P5")
def test_the_backup_of_a_guest_that_takes_no_part_ends_and_those_of_the_others_go_on(
    site: Site, in_muster: Callable[[Change], HeldFake]
) -> None:
    changed = in_muster(attached)
    journal = site.hosts["host-a"].journal.of(CAPTURE)
    journal.store_result(Step.HOLD, "", results(site.hold(all_or_nothing=False))[0].model_dump_json())
    assert begun_guests(journal) == frozenset({site.guests["host-a"][1].uuid}) != frozenset({changed.uuid})


@pytest.mark.case("P5")
@pytest.mark.parametrize("hold", [PAUSE, FREEZE])
def test_a_drive_that_comes_during_the_muster_changes_nothing(
    site: Site, in_muster: Callable[[Change], HeldFake], hold: GuestHold
) -> None:
    drive = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
    in_muster(lambda fake: redefined(own(fake), drive)(fake))
    held = results(site.hold(hold=hold))
    assert consistency(proof_of(held)) is Consistency.GROUP
    assert [(one.guest_faults, one.guest_warnings) for one in held] == [((), ()), ((), ())]


def prepared_as(site: Site, changed: Callable[[PreparedGuest], dict[str, Any]]) -> None:
    """Have host-a's guests be prepared with other values than the site's."""
    journal = site.hosts["host-a"].journal.of(CAPTURE)
    (path,) = journal.result_paths(Step.PREPARE)
    result = PrepareResult.model_validate_json(path.read_text())
    guests = tuple(guest.model_copy(update=changed(guest)) for guest in result.guests)
    journal.store_result(Step.PREPARE, "", result.model_copy(update={"guests": guests}).model_dump_json())


def identity(inode: str) -> DiskIdentity:
    return DiskIdentity(active=Layer(kind="file", place="/a", facts={"path": "/a", "inode": inode}))


@pytest.mark.case("P5", "I3")
@pytest.mark.parametrize(
    ("now", "said"),
    [
        (identity("2"), "disk vda was replaced: its storage is another: inode 2 instead of 1"),
        (Unknown("/a: Stale file handle"), "it cannot be told any more whether disk vda is the same: /a: Stale file"),
    ],
)
def test_another_disk_under_the_same_name_is_found_by_what_it_is(
    site: Site,
    in_muster: Callable[[Change], HeldFake],
    monkeypatch: pytest.MonkeyPatch,
    now: DiskIdentity | Unknown,
    said: str,
) -> None:
    found: list[DiskIdentity | Unknown] = [identity("1")]
    monkeypatch.setattr(drift, "read_identities", lambda _, targets: dict.fromkeys(targets, found[-1]))
    prepared_as(
        site,
        lambda guest: {"disks": (guest.disks[0].model_copy(update={"identity": identity("1")}),)},
    )
    in_muster(lambda _: found.append(now))
    held = results(site.hold())
    assert said in held[0].guest_faults[0].fault.message


@pytest.mark.case("P5", "G4")
def test_an_answer_that_is_no_definition_costs_that_guest_alone(
    site: Site, in_muster: Callable[[Change], HeldFake]
) -> None:
    def odd(fake: HeldFake) -> None:
        tell = fake.XMLDesc
        fake.XMLDesc = lambda flags=0: "<domain" if fake.has_backup else tell(flags)  # type: ignore[method-assign]

    changed = in_muster(odd)
    held = results(site.hold(all_or_nothing=False))
    assert [(one.guest_uuid, one.fault.code) for one in held[0].guest_faults] == [(changed.uuid, "guest-trouble")]
    assert "guest-11 could not be looked at after its hold" in held[0].guest_faults[0].fault.message
    assert held[1].guest_faults == ()


@pytest.mark.case("P5", "G4")
def test_a_libvirt_that_does_not_answer_the_last_look_costs_that_guest_alone(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(premises, "LOOK_S", 0.1)
    back = threading.Event()

    def hangs(fake: HeldFake) -> None:
        tell = fake.XMLDesc

        def desc(flags: int = 0) -> str:
            if fake.has_backup:
                assert back.wait(30)
            return tell(flags)

        fake.XMLDesc = desc  # type: ignore[method-assign]

    changed = in_muster(hangs)
    held = results(site.hold(all_or_nothing=False))
    assert [(one.guest_uuid, one.fault.code) for one in held[0].guest_faults] == [(changed.uuid, "guest-hangs")]
    assert held[1].guest_faults == ()
    back.set()


@pytest.mark.case("G4")
def test_a_guest_that_hangs_is_not_looked_at_again_before_it_answers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look would cost the host a thread."""
    monkeypatch.setattr(premises, "LOOK_S", 0.1)
    back, looks = threading.Event(), list[str]()

    def hangs(domain: Domain, _: PreparedGuest) -> tuple[str, ...]:
        looks.append(domain.uuid)
        assert back.wait(30)
        return ()

    monkeypatch.setattr(premises, "left_out_now", hangs)
    guest = guest_of(site.guests["host-a"][0], FREEZE.kind)
    guest.take(deadline())
    guest.release()
    for _ in range(2):
        premises.look_again(site.hosts["host-a"], [guest], time.monotonic(), 60.0, released=False)
    until(lambda: bool(looks))
    back.set()
    assert looks == [guest.uuid]


def steps_of(held: list[HoldResult], fake: HeldFake) -> GuestProof:
    (found,) = [one for host in held if host.proof for one in host.proof.guests if one.guest_uuid == fake.uuid]
    return found


def mounts(*more: list[object]) -> Change:
    return lambda fake: fake.filesystems.extend(map(list, more))


def unmounts(fake: HeldFake) -> None:
    """Have the filesystems of vda give way to as many elsewhere: the freeze answers the same number."""
    fake.filesystems[:] = [["/mnt/a", "sda1", "ext4", []], ["/mnt/b", "sda2", "ext4", []]]


def silences_agent(fake: HeldFake) -> None:
    def silent() -> list[list[object]]:
        raise no_answer()

    fake.fsInfo = silent  # type: ignore[method-assign]


def forbids(fake: HeldFake) -> None:
    fake.commands["guest-get-fsinfo"] = False


@pytest.mark.case("P1")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (mounts(["/boot/efi", "vda3", "vfat", ["vda"]]), "filesystem /boot/efi (vfat) on it cannot be frozen"),
        (mounts(["/srv", "nfs:/srv", "fuse.sshfs", []]), "and which disks it is on is not known"),
        (unmounts, "the guest's agent shows no frozen filesystem on it"),
        (silences_agent, "the guest's agent did not say"),
        (forbids, "the guest's agent cannot say which filesystems are on it"),
        (lambda fake: fake.loose.append("vda3"), "vda3"),
    ],
)
def test_a_disk_that_the_freeze_does_not_reach_any_more_is_named_and_not_called_still(
    site: Site, in_muster: Callable[[Change], HeldFake], change: Change, said: str
) -> None:
    """As prepare does with one that it never reached: a warning, and the label of that guest is crash."""
    changed = in_muster(change)
    held = results(site.hold(hold=FREEZE))
    assert [one.guest_faults for one in held] == [(), ()]
    (warning,) = held[0].guest_warnings
    assert warning.guest_uuid == changed.uuid
    assert warning.text.startswith("Disk vda of guest guest-11 is not kept still by the freeze: ")
    assert said in warning.text
    assert steps_of(held, changed).moving_disks == ("vda",)
    assert steps_of(held, changed).begun_ns is not None  # its data is good
    assert consistency(proof_of(held)) is Consistency.CRASH
    assert all(steps_of(held, other).own_instant for other in site.fakes.values() if other is not changed)


@pytest.mark.case("P1")
def test_a_freeze_must_have_frozen_as_many_filesystems_as_there_are(
    site: Site, in_muster: Callable[[Change], HeldFake]
) -> None:
    """One that was mounted before the freeze, on the same disk, and that the freeze did not count."""
    changed = in_muster(mounts(["/srv", "vda4", "xfs", ["vda"]]))
    held = results(site.hold(hold=FREEZE))
    steps = steps_of(held, changed)
    assert (steps.frozen_filesystems, steps.expected_filesystems) == (2, 3)
    assert consistency(proof_of(held)) is Consistency.CRASH


@pytest.mark.case("P1")
def test_a_pause_needs_no_agent_after_the_hold_either(site: Site, in_muster: Callable[[Change], HeldFake]) -> None:
    in_muster(silences_agent)
    assert consistency(proof_of(results(site.hold(hold=PAUSE)))) is Consistency.GROUP


def reads_another(site: Site, fake: HeldFake) -> None:
    """Give a guest a second disk, which it only reads, before it is prepared: no freeze has to reach that one."""
    redefined(own(fake), disk_xml("vdb", "/manual.img", more="<readonly/>"))(fake)

    def changed(guest: PreparedGuest) -> dict[str, Any]:
        if guest.guest_uuid != fake.uuid:
            return {}
        second = guest.disks[0].model_copy(update={"target": "vdb", "source": "/manual.img", "readonly": True})
        return {"live_xml": fake.live_xml, "disks": (*guest.disks, second)}

    prepared_as(site, changed)


@pytest.mark.case("P1")
def test_an_agent_that_hangs_after_the_hold_costs_the_label_and_not_the_guest(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(premises, "LOOK_S", 0.1)
    back = threading.Event()

    def hangs(fake: HeldFake) -> None:
        def waits() -> list[list[object]]:
            assert back.wait(30)
            return []

        fake.fsInfo = waits  # type: ignore[method-assign]

    changed = in_muster(hangs)
    reads_another(site, changed)
    held = results(site.hold(hold=FREEZE))
    back.set()
    assert steps_of(held, changed).moving_disks == ("vda",)
    assert steps_of(held, changed).begun_ns is not None
    assert consistency(proof_of(held)) is Consistency.CRASH


def read_only(disk: PreparedDisk) -> PreparedDisk:
    return disk.model_copy(update={"readonly": True})


def add_writer(
    site: Site, monkeypatch: pytest.MonkeyPatch, listed: Callable[[], list[Domain]] | None = None, more: str = ""
) -> Change:
    """Have libvirt list a guest more, from then on, which writes to the disk of the guest that changes, or to `more`."""
    guests = [*site.fakes.values()]

    def change(fake: HeldFake) -> None:
        xml = domain_xml(disk_xml("vdx", more or f"/{fake.label}.img"), name="beta", uuid=UUID)
        guests.append(HeldFake(xml, uuid=UUID, label="beta"))

    monkeypatch.setattr(Hypervisor, "domains", lambda _: listed() if listed else [one.domain() for one in guests])
    return change


@pytest.mark.case("P2")
@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
def test_a_guest_to_whose_disk_another_writes_since_the_muster_takes_no_part(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch, *, everyone: bool
) -> None:
    changed = in_muster(add_writer(site, monkeypatch))
    held = results(site.hold(all_or_nothing=everyone))
    (fault,) = held[0].guest_faults
    assert (fault.guest_uuid, fault.fault.code) == (changed.uuid, "disk-not-capturable")
    assert "Disk vda of guest guest-11 cannot be captured: disk vdx of the running guest beta" in fault.fault.message
    assert steps_of(held, changed).begun_ns is None
    assert sum(steps_of(held, fake).own_instant for fake in site.fakes.values()) == 3


@pytest.mark.case("P2")
def test_a_guest_of_which_nobody_knows_what_it_writes_to_takes_the_labels_of_the_host_s_guests(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is gone, and may have led to any storage. Other hosts are told, for the disks that they share."""
    in_muster(add_writer(site, monkeypatch, more="/gone/lun"))
    held = results(site.hold())
    why = "disk vdx of guest beta: /gone/lun does not tell which storage it is"
    assert [one.writers_unseen for one in held] == [why] * 2
    assert all(steps_of(held, fake).moving_disks == ("vda",) for fake in site.fakes.values())
    assert all(steps_of(held, fake).begun_ns is not None for fake in site.fakes.values())
    assert {warning.text for one in held for warning in one.guest_warnings} == {
        f"After the hold it could not be seen whether another guest writes to the disks of guest {fake.label}: {why}. "
        "The guest's label is crash."
        for fake in site.fakes.values()
    }


@pytest.mark.case("P2")
def test_a_disk_that_the_freeze_does_not_reach_and_that_others_may_write_to_is_named_once(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = in_muster(add_writer(site, monkeypatch, more="/gone/lun"))
    prepared_as(site, lambda _: {"moving_disks": ("vda",)})
    assert steps_of(results(site.hold(hold=FREEZE)), changed).moving_disks == ("vda",)


@pytest.mark.case("P2")
def test_a_disk_that_its_own_guest_only_reads_is_no_safer_from_others(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_muster(add_writer(site, monkeypatch, more="/gone/lun"))
    prepared_as(site, lambda guest: {"disks": tuple(read_only(one) for one in guest.disks)})
    held = results(site.hold())
    assert all(steps_of(held, fake).moving_disks == ("vda",) for fake in site.fakes.values())
    assert not any(steps_of(held, fake).own_instant for fake in site.fakes.values())
    assert consistency(proof_of(held)) is Consistency.CRASH


@pytest.mark.case("P2")
def test_one_whose_own_storage_does_not_tell_loses_its_own_label(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its QEMU's descriptors tell that it writes to no other guest's disk: but which disk is captured is not known."""

    def uses(hypervisor: Hypervisor) -> list[DiskUse]:
        return [replace(one, unseen="why") if one.guest_uuid == known[0].uuid else one for one in disk_uses(hypervisor)]

    known = [in_muster(lambda _: None)]
    monkeypatch.setattr(premises, "disk_uses", uses)
    held = results(site.hold())
    assert [len(steps_of(held, fake).moving_disks) for fake in site.fakes.values()] == [1, 0, 0, 0]
    assert [one.writers_unseen for one in held] == ["", ""]


@pytest.mark.case("P2")
def test_a_writer_that_is_known_is_found_beside_one_that_is_not(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_muster(add_writer(site, monkeypatch))
    changed = site.guests["host-b"][0]
    changed.live_xml = changed.live_xml.replace("</devices>", disk_xml("vdb", "/gone/x") + "</devices>")
    held = results(site.hold(all_or_nothing=False))
    assert [fault.fault.code for fault in held[0].guest_faults] == ["disk-not-capturable"]


@pytest.mark.case("P2", "G4")
@pytest.mark.parametrize("hangs", [True, False])
def test_what_cannot_be_seen_of_other_guests_costs_the_label_and_not_the_data(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    monkeypatch.setattr(premises, "LOOK_S", 0.5)
    back = threading.Event()

    def listed() -> list[Domain]:
        if hangs:
            assert back.wait(30)
        raise HypervisorError("Listing guests failed: no.")

    add_writer(site, monkeypatch, listed)
    held = results(site.hold())
    back.set()
    assert [one.guest_faults for one in held] == [(), ()]
    assert consistency(proof_of(held)) is Consistency.CRASH
    texts = [one.text for host in held for one in host.guest_warnings]
    assert len(texts) == 4
    assert "whether another guest writes to the disks of guest guest-11" in texts[0]
    assert all(guest.begun_ns and guest.moving_disks for host in held if host.proof for guest in host.proof.guests)


@pytest.mark.case("P2", "G4")
def test_a_libvirt_that_hangs_is_not_asked_for_all_guests_again_before_it_answers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hold would cost the host a thread."""
    monkeypatch.setattr(premises, "LOOK_S", 0.1)
    back, asked = threading.Event(), list[Hypervisor]()

    def hangs(hypervisor: Hypervisor) -> list[DiskUse]:
        asked.append(hypervisor)
        assert back.wait(30)
        return []

    monkeypatch.setattr(premises, "disk_uses", hangs)
    host = site.hosts["host-a"]
    unseen = [premises.look_again(host, (), time.monotonic(), 60.0, released=True)[1].unseen for _ in range(2)]
    until(lambda: bool(asked))
    back.set()
    assert all(unseen)
    assert asked == [host.hypervisor]


def test_the_look_ends_before_the_orchestrator_calls_the_host_silent() -> None:
    assert LONGEST_GIVE_UP_S < premises.LATEST_S < HOLD_SLACK_S


def test_nobody_is_looked_at_who_was_never_touched(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def look(domain: Domain, guest: PreparedGuest) -> tuple[str, ...]:
        assert domain.uuid == guest.guest_uuid
        looked.append(domain.name)
        return ()

    monkeypatch.setattr(premises, "left_out_now", look)
    site.guests["host-a"][0].state_code = 3  # paused by others
    results(site.hold(hold=FREEZE, all_or_nothing=False))
    assert sorted(looked) == ["guest-12", "guest-21", "guest-22"]


def test_a_result_without_a_warning_does_not_name_the_field(site: Site) -> None:
    """A version that does not know the field reads the result."""
    for one in results(site.hold()):
        assert "guest_warnings" not in one.model_dump_json()
        assert HoldResult.model_validate_json(one.model_dump_json()) == one


@pytest.mark.case("P1")
def test_a_disk_that_is_left_out_needs_no_freeze_after_the_hold_either(site: Site) -> None:
    """Its filesystem cannot be frozen; nothing of it is stored."""
    leaves_out = site.guests["host-a"][0]
    redefined(own(leaves_out), disk_xml("vdb", "/scratch.img"))(leaves_out)
    leaves_out.filesystems.append(["/boot/efi", "vdb1", "vfat", ["vdb"]])
    skipped = SkippedDisk(target="vdb", reason="asked for")
    prepared_as(
        site,
        lambda guest: (
            {"live_xml": leaves_out.live_xml, "skipped": (skipped,)} if guest.guest_uuid == leaves_out.uuid else {}
        ),
    )
    held = results(site.hold(hold=FREEZE))
    assert [(one.guest_faults, one.guest_warnings) for one in held] == [((), ())] * 2
    assert steps_of(held, leaves_out).moving_disks == ()
    assert consistency(proof_of(held)) is Consistency.GROUP


@pytest.mark.case("P5", "G4")
def test_a_guest_with_a_pending_call_is_looked_at_over_another_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pending call may stand on its own for as long as QEMU is silent."""
    used: list[bool] = []
    settled = HeldGuest.is_settled
    pending = site.guests["host-a"][0]
    monkeypatch.setattr(HeldGuest, "is_settled", lambda one: one.uuid != pending.uuid and settled(one))

    def look(domain: Domain, guest: PreparedGuest) -> tuple[str, ...]:
        used.extend(domain is one.domain for one in of_host if one.uuid == guest.guest_uuid)
        return ()

    of_host: list[HeldGuest] = []
    again = premises.look_again

    def noted(host: Host, guests: Sequence[HeldGuest], *rest: Any, released: bool) -> Any:
        of_host.extend(guests)
        return again(host, guests, *rest, released=released)

    monkeypatch.setattr(step, "look_again", noted)
    monkeypatch.setattr(premises, "left_out_now", look)
    results(site.hold())
    assert sorted(used) == [False, True, True, True]


@pytest.mark.case("P5")
def test_a_guest_that_failed_for_its_own_reason_is_told_of_that_alone(
    site: Site, in_muster: Callable[[Change], HeldFake], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That libvirt does not tell of its disks either is no second reason."""

    def refuses(fake: HeldFake) -> None:
        fake.refuses_begin, tell = True, fake.XMLDesc

        def desc(flags: int = 0) -> str:
            if "suspend" in fake.log:
                raise libvirt_error(IN_USE)
            return tell(flags)

        fake.XMLDesc = desc  # type: ignore[method-assign]

    changed = in_muster(refuses)
    seen: list[tuple[str, int]] = []
    drop = premises._drop

    def noted(guest: HeldGuest, error: FreezeframeError, *, is_cause: bool = False) -> None:
        drop(guest, error, is_cause=is_cause)
        seen.append((guest.uuid, len(guest.faults)))

    monkeypatch.setattr(premises, "_drop", noted)
    held = results(site.hold(all_or_nothing=False))
    assert seen == [(changed.uuid, 1)]
    assert len(held[0].guest_faults) == 1


def with_hold(phase: Phase, hold_start_ns: int | None, begun_ns: int | None = None) -> Any:
    """Return a guest with all that the second look asks of it before it looks."""
    return SimpleNamespace(uuid=UUID, phase=phase, hold_start_ns=hold_start_ns, begun_ns=begun_ns)


UNTOUCHED = with_hold(Phase.WAITING, None)
LEFT_ALONE = with_hold(Phase.LEFT_ALONE, 1)
HELD, BEGUN = with_hold(Phase.GONE, 1), with_hold(Phase.GONE, 1, 2)


@pytest.mark.parametrize(
    ("guests", "released", "looked_at", "uses_asked_for"),
    [
        ((UNTOUCHED, LEFT_ALONE), False, (), False),
        ((UNTOUCHED, LEFT_ALONE), True, (), True),
        ((HELD, UNTOUCHED), False, (HELD,), False),
        ((HELD, BEGUN), False, (HELD, BEGUN), True),
        ((BEGUN, HELD, LEFT_ALONE), False, (BEGUN, HELD), True),
        ((HELD,), True, (HELD,), True),
    ],
)
def test_only_touched_guests_are_looked_at_and_uses_if_there_is_a_backup_or_a_release(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    guests: Sequence[Any],
    looked_at: Sequence[Any],
    *,
    released: bool,
    uses_asked_for: bool,
) -> None:
    seen: list[Any] = []
    asked: list[Hypervisor] = []

    def look(_host: Host, guest: Any, *_: object) -> None:
        seen.append(guest)

    def uses(hypervisor: Hypervisor) -> list[DiskUse]:
        asked.append(hypervisor)
        return []

    def judge(guests: Sequence[Any], _: object) -> list[tuple[Any, str]]:
        assert HELD not in guests  # of which there is nothing that could be dropped
        return [(guest, "written to") for guest in guests]

    monkeypatch.setattr(premises, "_start", look)
    monkeypatch.setattr(premises, "_judge", lambda _, guest, *__: [f"phase {guest.phase}"])
    monkeypatch.setattr(premises, "_judge_writers", judge)
    monkeypatch.setattr(premises, "disk_uses", uses)
    warnings, _ = premises.look_again(site.hosts["host-a"], guests, time.monotonic(), 60.0, released=released)
    assert (tuple(seen), bool(asked)) == (looked_at, uses_asked_for)
    expected = ["phase gone", "written to"] if BEGUN in guests else []  # of others nothing is kept
    assert [one.text for one in warnings] == expected
