"""A second writer that is gone again when a disk has been read is found all the same: its backup is given up (P2)."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Self, cast

import libvirt as libvirt_library
import pytest
import redis

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.result import PrepareResult, SeenUses, StorageUse
from freezeframe.contract.words import Step
from tests.unit.workers import watched_host
from tests.unit.workers.watched_host import ALPHA, BETA, CAPTURE, GAMMA, Libvirt, begin, held, transferred
from workers import storage_looks, writers
from workers.fitness import DiskUse
from workers.host import Host
from workers.host_calls import LibvirtHangsError
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import GuestGoneError, HypervisorUnreachableError
from workers.hypervisor.guest_events import GuestEvent, GuestEvents
from workers.journal import BackupChange, ClaimChange, ReservationChange
from workers.scratch import ending
from workers.scratch.open_backups import OpenBackup, given_up
from workers.writers import WriterWatch

pytestmark = pytest.mark.case("P2")

DELTA = "00000000-0000-4000-8000-00000000000d"


class Machine:
    """The storage of the guests that run on the host."""

    def __init__(self) -> None:
        self.running: dict[str, list[DiskUse]] = {}

    def has(self, uuid: str, target: str, storage: str, *, reads_only: bool = False) -> None:
        keys = frozenset({storage})
        use = DiskUse(uuid, watched_host.NAMES.get(uuid, "delta"), target, keys, frozenset() if reads_only else keys)
        self.running.setdefault(uuid, []).append(use)

    def all(self, _: Hypervisor) -> list[DiskUse]:
        return [use for uses in self.running.values() for use in uses]

    def one(self, _: Hypervisor, uuid: str) -> list[DiskUse]:
        if uuid not in self.running:
            raise GuestGoneError("It is not here.")
        return list(self.running[uuid])


@pytest.fixture
def machine(host: Host, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Alpha's two disks are being read."""
    made = Machine()
    made.has(ALPHA, "vda", "lun")
    made.has(ALPHA, "vdb", "own")
    monkeypatch.setattr(storage_looks, "uses_of_guest", made.one)
    monkeypatch.setattr(writers, "disk_uses", made.all)
    begin(host, libvirt, ALPHA)
    return made


@pytest.fixture(autouse=True)
def this_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """`watched_host.held` says that the hold began at 2 ns of the boot `b`."""
    monkeypatch.setattr(writers, "boot_id", lambda: "b")


def reason(host: Host, uuid: str = ALPHA) -> str:
    for thread in threading.enumerate():
        if thread.name.startswith("end-"):
            thread.join()
    fault = given_up(host.journal.of(CAPTURE), uuid)
    return fault.message if fault else ""


def came(uuid: str = BETA, at_ns: int = 10) -> GuestEvent:
    return GuestEvent(uuid, at_ns)


def went(uuid: str = BETA, at_ns: int = 20) -> GuestEvent:
    return GuestEvent(uuid, at_ns, stopped=True)


def test_a_guest_that_came_upon_a_disk_that_is_read_ends_its_backup(
    host: Host, libvirt: Libvirt, machine: Machine
) -> None:
    held(host, ALPHA)
    machine.has(BETA, "vdz", "lun")
    WriterWatch(host).take([came()])
    assert "Disk vda of guest alpha" in reason(host)
    assert "disk vdz of the running guest beta writes to the same storage" in reason(host)
    assert libvirt.ended == ["alpha"]


def test_also_if_it_stopped_before_the_hold_s_own_look_and_that_one_is_over_only_then(
    host: Host, libvirt: Libvirt, machine: Machine
) -> None:
    """Nothing ends a backup while its hold is under way."""
    watch = WriterWatch(host)
    machine.has(BETA, "vdz", "lun")
    watch.take([came(at_ns=1)])
    del machine.running[BETA]
    watch.take([went(at_ns=3)])  # the backup began at 2
    assert (reason(host), libvirt.ended) == ("", [])
    held(host, ALPHA)
    watch.take([])
    assert "guest beta" in reason(host)


def test_one_that_stopped_before_the_backup_began_is_in_nobody_s_way(host: Host, machine: Machine) -> None:
    watch = WriterWatch(host)
    machine.has(BETA, "vdz", "lun")
    watch.take([came(at_ns=0)])
    del machine.running[BETA]
    watch.take([went(at_ns=1)])
    held(host, ALPHA)
    watch.take([])
    assert reason(host) == ""


def test_a_disk_that_a_running_guest_is_given_and_that_is_taken_away_again_is_found(
    host: Host, machine: Machine
) -> None:
    watch = WriterWatch(host)
    machine.has(BETA, "vda", "other")
    watch.take([came(at_ns=0)])
    machine.has(BETA, "vdz", "lun")
    watch.take([came(at_ns=1)])
    machine.running[BETA].pop()
    watch.take([came(at_ns=3)])
    held(host, ALPHA)
    watch.take([])
    assert "disk vdz of the running guest beta" in reason(host)


def test_one_that_was_taken_away_before_the_backup_began_is_not(host: Host, machine: Machine) -> None:
    watch = WriterWatch(host)
    machine.has(BETA, "vdz", "lun")
    watch.take([came(at_ns=0)])
    machine.running[BETA] = []
    machine.has(BETA, "vda", "other")
    watch.take([came(at_ns=1)])
    held(host, ALPHA)
    watch.take([])
    assert reason(host) == ""


@pytest.mark.parametrize(
    "why", ["reads only", "other storage", "disk was read", "not begun", "another boot", "unreadable"]
)
def test_who_is_in_nobody_s_way_ends_nothing(
    why: str, host: Host, libvirt: Libvirt, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(host, *(() if why == "not begun" else (ALPHA,)), late=(ALPHA,) if why == "not begun" else ())
    machine.has(BETA, "vdz", "elsewhere" if why == "other storage" else "lun", reads_only=why == "reads only")
    if why == "disk was read":
        transferred(host, ALPHA, "vda")
    if why == "another boot":
        monkeypatch.setattr(writers, "boot_id", lambda: "later")
    if why == "unreadable":
        host.journal.of(CAPTURE).store_result(Step.HOLD, "", "{}")
    WriterWatch(host).take([came()])
    assert (reason(host), libvirt.ended) == ("", [])


def test_the_other_disks_of_the_guest_are_watched_on(host: Host, machine: Machine) -> None:
    held(host, ALPHA)
    transferred(host, ALPHA, "vda")
    machine.has(BETA, "vdz", "own")
    WriterWatch(host).take([came()])
    assert "Disk vdb of guest alpha" in reason(host)


def test_a_backup_is_given_up_once_and_a_reason_before_stands(host: Host, libvirt: Libvirt, machine: Machine) -> None:
    held(host, ALPHA)
    watch = WriterWatch(host)
    machine.has(BETA, "vdz", "lun")
    watch.take([came()])
    first = reason(host)
    machine.has(GAMMA, "vdy", "lun")
    watch.take([came(GAMMA)])
    assert reason(host) == first


def test_only_the_guest_whose_disk_it_is_is_given_up(host: Host, libvirt: Libvirt, machine: Machine) -> None:
    begin(host, libvirt, GAMMA)
    machine.has(GAMMA, "vda", "third")
    held(host, ALPHA, GAMMA)
    machine.has(BETA, "vdz", "lun")
    WriterWatch(host).take([came()])
    assert reason(host, GAMMA) == ""
    assert reason(host) != ""
    assert libvirt.ended == ["alpha"]


def test_after_a_gap_all_guests_that_run_are_new_and_those_that_went_are_gone(host: Host, machine: Machine) -> None:
    held(host, ALPHA)
    machine.has(BETA, "vdz", "lun")
    WriterWatch(host).begin()
    assert "guest beta" in reason(host)


def test_without_an_open_backup_nobody_is_asked_after_a_gap(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "disk_uses", lambda _: pytest.fail("it was asked"))
    WriterWatch(host).begin()


BOOT = "<domain type='test'><name>new</name><memory>1</memory><os><type>hvm</type></os></domain>"


@pytest.fixture
def connection() -> libvirt_library.virConnect:
    found = Hypervisor("test:///default")
    loan = found.lend()  # keeps the driver's guests for as long as it is there
    return loan.connection


def test_libvirt_tells_of_guests_that_start_and_stop(connection: libvirt_library.virConnect) -> None:
    with GuestEvents(Hypervisor("test:///default")) as events:
        assert events.alive()
        guest = connection.createXML(BOOT)
        uuid = guest.UUIDString()
        (started,) = events.wait(10)
        guest.destroy()
        (stopped,) = events.wait(10)
    assert (started.guest_uuid, started.stopped) == (uuid, False)
    assert (stopped.guest_uuid, stopped.stopped) == (uuid, True)
    assert 0 < started.at_ns <= stopped.at_ns
    connection.createXML(BOOT).destroy()
    assert events.wait(0.2) == []  # its connection is another caller's now


def test_the_watch_goes_on_with_a_new_connection(host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, made = threading.Event(), list[int]()

    class Events:
        def __init__(self, _: Hypervisor) -> None:
            made.append(len(made))
            if len(made) == 1:
                raise HypervisorUnreachableError("libvirtd is away.")

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def alive(self) -> bool:
            return len(made) != 2  # lost at once

        def wait(self, _: float) -> list[GuestEvent]:
            stop.set()
            return [came()]

    held(host, ALPHA)
    machine.has(BETA, "vdz", "lun", reads_only=True)
    monkeypatch.setattr(writers, "GuestEvents", Events)
    monkeypatch.setattr(writers, "AGAIN_S", 0.0)
    taken: list[GuestEvent] = []
    monkeypatch.setattr(WriterWatch, "take", lambda _, events: taken.extend(events))
    writers.watch_forever(host, stop)
    assert (len(made), taken) == (3, [came()])


LUN = "wwid naa.1 "


def told(host: Host) -> list[SeenUses]:
    """Return what the orchestrator finds in the run's results."""
    found = cast("dict[str, str]", host.redis.hgetall(names.results_key(CAPTURE)))
    assert all(field.startswith("uses/host-a/") for field in found)
    return [SeenUses.model_validate_json(text) for text in found.values()]


def test_other_hosts_are_told_of_a_writer_that_comes_to_storage_which_they_may_have(
    host: Host, machine: Machine
) -> None:
    """Also when this host has read all its disks, and although the writer is gone again."""
    watch = WriterWatch(host)
    machine.has(BETA, "vdz", LUN)
    watch.take([came(at_ns=1)])
    del machine.running[BETA]
    watch.take([went(at_ns=3)])
    assert told(host) == []
    held(host, ALPHA)
    transferred(host, ALPHA, "vda", "vdb")
    watch.take([])
    (found,) = told(host)
    (use,) = found.uses
    assert (found.host_id, use.guest_uuid, use.target, use.writes) == ("host-a", BETA, "vdz", (LUN,))
    assert host.redis.ttl(names.results_key(CAPTURE)) > 0
    machine.has(GAMMA, "vda", "third")
    watch.take([came(GAMMA)])
    assert told(host) == [found]  # once


@pytest.mark.parametrize("why", ["reads only", "local", "gone before", "told before", "not begun"])
def test_other_hosts_are_not_told_of_who_is_in_nobody_s_way(why: str, host: Host, machine: Machine) -> None:
    machine.has(BETA, "vdz", "path /x" if why == "local" else LUN, reads_only=why == "reads only")
    if why == "told before":
        use = StorageUse(guest_uuid=BETA, guest="beta", target="vdz", writes=(LUN,))
        result = PrepareResult(capture_id=CAPTURE, host_id="host-a", uses=(use,))
        host.journal.of(CAPTURE).store_result(Step.PREPARE, "", result.model_dump_json())
    watch = WriterWatch(host)
    watch.take([came(at_ns=0)])
    if why == "gone before":
        del machine.running[BETA]
        watch.take([went(at_ns=1)])
    held(host, *(() if why == "not begun" else (ALPHA,)), late=(ALPHA,) if why == "not begun" else ())
    watch.take([])
    assert told(host) == []


def test_what_redis_does_not_take_is_told_again(host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    held(host, ALPHA)
    machine.has(BETA, "vdz", LUN)
    watch = WriterWatch(host)

    def away(*_: object) -> int:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as broken:
        broken.setattr(host.redis, "hsetnx", away)
        watch.take([came()])
    assert told(host) == []
    watch.take([])
    assert len(told(host)) == 1


@pytest.mark.parametrize("backups", [True, False], ids=["in the transfer", "at the seal"])
def test_what_redis_has_lost_is_told_again_for_as_long_as_the_capture_is_under_way(
    host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch, *, backups: bool
) -> None:
    """After a failover, say: hosts tell their other results again, and without this one the label would claim more."""
    held(host, ALPHA)
    machine.has(BETA, "vdz", LUN)
    watch = WriterWatch(host)
    watch.take([came()])
    [first] = told(host)
    if not backups:
        monkeypatch.setattr(writers, "open_backups", lambda _: [])
        watch.take([went()])
    host.redis.delete(names.results_key(CAPTURE))
    watch.take([])
    assert told(host) == [first]
    host.journal.of(CAPTURE).end()
    host.redis.delete(names.results_key(CAPTURE))
    watch.take([])
    assert told(host) == []


def test_nobody_is_told_of_a_capture_that_has_ended(host: Host, machine: Machine) -> None:
    held(host, ALPHA)
    host.journal.of(CAPTURE).end()
    machine.has(BETA, "vdz", LUN)
    WriterWatch(host).take([came()])
    assert told(host) == []


def unseen(host: Host) -> list[str]:
    return [one.writers_unseen for one in told(host) if one.writers_unseen]


@pytest.fixture
def late(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Guests of whose storage libvirt does not tell in time."""
    found: set[str] = set()

    def one(hypervisor: Hypervisor, uuid: str) -> list[DiskUse]:
        if uuid in found:
            raise LibvirtHangsError("libvirt has not answered within 10 s.")
        return machine.one(hypervisor, uuid)

    monkeypatch.setattr(storage_looks, "uses_of_guest", one)
    return found


def test_a_writer_of_whom_libvirt_tells_late_is_asked_for_again(host: Host, machine: Machine, late: set[str]) -> None:
    held(host, ALPHA)
    machine.has(BETA, "vdz", "lun")
    late.add(BETA)
    watch = WriterWatch(host)
    watch.take([came()])
    late.clear()
    assert reason(host) == ""
    watch.take([])  # a second later
    assert "disk vdz of the running guest beta" in reason(host)
    assert unseen(host) == []


@pytest.mark.parametrize("when", ["it comes", "after a gap"])
def test_one_whose_storage_does_not_tell_is_asked_for_again_and_takes_the_label_if_it_goes(
    when: str, host: Host, machine: Machine
) -> None:
    held(host, ALPHA)
    nothing = frozenset[str]()
    machine.running[BETA] = [DiskUse(BETA, "beta", "vdz", nothing, nothing, writes_unseen="its link is gone")]
    watch = WriterWatch(host)
    if when == "it comes":
        watch.take([came()])
    else:
        watch.begin()
    assert (reason(host), unseen(host)) == ("", [])
    other = WriterWatch(host, [*watch._seen])
    watch.take([went()])
    assert unseen(host) == [f"what guest {BETA} used is not known: its link is gone"]
    machine.running[BETA] = []
    machine.has(BETA, "vdz", "lun")
    other.take([])
    assert "guest beta" in reason(host)


@pytest.mark.parametrize("end", ["stopped", "not there when asked again", "given a disk, and it was taken away again"])
def test_one_that_was_gone_before_libvirt_told_takes_the_label(
    end: str, host: Host, machine: Machine, late: set[str]
) -> None:
    held(host, ALPHA)
    machine.has(BETA, "vdz", "lun")
    late.add(BETA)
    watch = WriterWatch(host)
    watch.take([came()])
    watch.take([])
    assert unseen(host) == []  # as long as it runs the looks find it
    if end == "stopped":
        watch.take([went()])
    elif end == "not there when asked again":
        late.clear()
        del machine.running[BETA]
        watch.take([])
    else:
        late.clear()
        machine.running[BETA] = []
        watch.take([came(at_ns=12)])
    (found,) = unseen(host)
    assert found == f"what guest {BETA} used is not known: libvirt has not answered within 10 s"
    watch.take([])
    assert len(unseen(host)) == 1


def test_one_that_came_and_went_before_libvirt_was_asked_takes_it_too(host: Host, machine: Machine) -> None:
    held(host, ALPHA)
    WriterWatch(host).take([came(GAMMA)])
    assert reason(host) == ""
    assert unseen(host) == [f"what guest {GAMMA} used is not known: it was gone when libvirt was asked"]


def test_one_that_was_gone_before_the_backup_began_takes_nothing(host: Host, machine: Machine, late: set[str]) -> None:
    machine.has(BETA, "vdz", "lun")
    late.add(BETA)
    watch = WriterWatch(host)
    watch.take([came(at_ns=0)])
    watch.take([went(at_ns=1)])
    held(host, ALPHA)
    watch.take([])
    assert (reason(host), told(host)) == ("", [])


def test_the_captured_guest_of_whom_libvirt_tells_late_is_asked_for_again(
    host: Host, machine: Machine, late: set[str]
) -> None:
    held(host, ALPHA)
    machine.has(BETA, "vdz", "lun")
    late.add(ALPHA)
    watch = WriterWatch(host)
    watch.take([came()])
    assert (reason(host), unseen(host)) == ("", [])
    late.clear()
    watch.take([])
    assert "guest beta" in reason(host)


def test_if_the_other_is_gone_by_then_the_label_claims_less(host: Host, machine: Machine, late: set[str]) -> None:
    """The transfer may end before libvirt has told, and finds no writer then."""
    held(host, ALPHA)
    machine.has(BETA, "vdz", "lun")
    late.add(ALPHA)
    watch = WriterWatch(host)
    watch.take([came()])
    watch.take([went()])
    assert unseen(host) == ["the storage of guest alpha is not known: libvirt has not answered within 10 s"]


def test_what_redis_does_not_take_is_told_also_when_all_backups_are_over(
    host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(host, ALPHA)
    machine.has(BETA, "vdz", LUN)
    watch = WriterWatch(host)

    def away(*_: object) -> int:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as broken:
        broken.setattr(host.redis, "hsetnx", away)
        watch.take([came()])
        broken.setattr(writers, "open_backups", lambda _: [])
        watch.take([went()])
        watch.take([])
    monkeypatch.setattr(writers, "open_backups", lambda _: [])
    watch.take([])
    assert len(told(host)) == 1


EARLIER, LATER = (f"01{letter}{CAPTURE[3:]}" for letter in "JZ")


def unreadable(host: Host, capture_id: str, how: str) -> None:
    """Another capture of this host, of another guest, whose answer to the hold cannot be read."""
    other = host.journal.of(capture_id)
    host.claims.take(GAMMA, capture_id)
    other.record(ClaimChange(guest_uuid=GAMMA))
    other.record(ReservationChange(guest_uuid=GAMMA, guest="gamma", needed_bytes=1, targets=("vda",)))
    socket = watched_host.export_socket(host, GAMMA)
    other.record(BackupChange(guest_uuid=GAMMA, socket=socket, checkpoint=None, repository_id="r"))
    if how == "EIO":
        (host.settings.state_dir / "captures" / capture_id / "results" / "hold.json").mkdir(parents=True)  # EISDIR
    else:
        other.store_result(Step.HOLD, "", '{"v": 99}')


@pytest.mark.parametrize("other", [EARLIER, LATER])
@pytest.mark.parametrize("how", ["EIO", "of a newer version"])
def test_a_hold_that_cannot_be_read_hides_no_writer_of_another_capture(
    how: str, other: str, host: Host, machine: Machine
) -> None:
    held(host, ALPHA)
    unreadable(host, other, how)
    machine.has(BETA, "vdz", "lun")
    WriterWatch(host).take([came()])
    assert "guest beta writes to the same storage" in reason(host)
    assert told(host) == []


@pytest.mark.parametrize("how", ["EIO", "of a newer version"])
def test_of_its_own_capture_it_is_told_that_writers_are_not_known(how: str, host: Host, machine: Machine) -> None:
    """No writer that has come and gone can be found without it, and the capture goes on."""
    unreadable(host, LATER, how)
    machine.has(BETA, "vdz", "lun")
    watch = WriterWatch(host)
    watch.take([came()])
    found = cast("dict[str, str]", host.redis.hgetall(names.results_key(LATER)))
    (one,) = (SeenUses.model_validate_json(text) for text in found.values())
    assert one.writers_unseen.startswith(f"the host cannot read its own answer to the hold of capture {LATER} (")
    assert one.uses == ()


def test_a_reason_that_cannot_be_written_down_keeps_no_other_backup(
    host: Host, libvirt: Libvirt, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk. It is tried again, each second."""
    begin(host, libvirt, GAMMA)
    machine.has(GAMMA, "vda", "lun too")
    held(host, ALPHA, GAMMA)
    note = ending.note

    def full(host: Host, one: OpenBackup, fault: Fault) -> None:
        if one.guest_uuid == ALPHA:
            raise OSError(errno.ENOSPC, "No space left on device")
        note(host, one, fault)

    machine.has(BETA, "vdy", "lun")
    machine.has(BETA, "vdz", "lun too")
    watch = WriterWatch(host)
    with monkeypatch.context() as broken:
        broken.setattr(ending, "note", full)
        watch.take([came()])
    assert "guest beta" in reason(host, GAMMA)
    assert reason(host) == ""
    watch.take([])
    assert "guest beta" in reason(host)


def lost_device(uuid: str = BETA, at_ns: int = 10) -> GuestEvent:
    return GuestEvent(uuid, at_ns, adds_none=True)


def test_a_device_that_was_taken_from_a_guest_which_is_gone_by_then_takes_no_label(
    host: Host, machine: Machine
) -> None:
    """It has got nothing: the looks have seen what it had."""
    held(host, ALPHA)
    WriterWatch(host).take([lost_device(GAMMA)])
    assert (reason(host), told(host)) == ("", [])


def test_what_such_a_guest_had_counts_until_it_stopped(host: Host, machine: Machine) -> None:
    watch = WriterWatch(host)
    machine.has(BETA, "vdz", "lun")
    watch.take([came(at_ns=0)])
    del machine.running[BETA]
    watch.take([lost_device(at_ns=1)])
    watch.take([went(at_ns=3)])  # the backup began at 2
    held(host, ALPHA)
    watch.take([])
    assert "disk vdz of the running guest beta" in reason(host)


def test_a_device_that_was_taken_from_a_guest_that_runs_is_in_nobody_s_way_any_more(
    host: Host, machine: Machine
) -> None:
    watch = WriterWatch(host)
    machine.has(BETA, "vdz", "lun")
    watch.take([came(at_ns=0)])
    machine.running[BETA] = []
    watch.take([lost_device(at_ns=1)])
    held(host, ALPHA)
    watch.take([])
    assert (reason(host), told(host)) == ("", [])


def test_libvirt_tells_of_devices_and_block_jobs_but_not_of_backups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of each backup of a capture is such an event."""
    callbacks: dict[int, Callable[..., None]] = {}

    def register(domain: None, event_id: int, callback: Callable[..., None], opaque: None) -> int:
        assert (domain, opaque) == (None, None)
        callbacks[event_id] = callback
        return len(callbacks)

    connection = SimpleNamespace(domainEventRegisterAny=register, domainEventDeregisterAny=lambda _: None)
    monkeypatch.setattr(Hypervisor, "lend", lambda _: SimpleNamespace(connection=connection))
    beta = SimpleNamespace(UUIDString=lambda: BETA)
    lib = libvirt_library
    with GuestEvents(Hypervisor("test:///default")) as events:
        jobs = callbacks[lib.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2]
        jobs(None, beta, "vda", lib.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP, lib.VIR_DOMAIN_BLOCK_JOB_CANCELED, None)
        jobs(None, beta, "vda", lib.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, lib.VIR_DOMAIN_BLOCK_JOB_READY, None)
        callbacks[lib.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED](None, beta, "virtio-disk1", None)
        callbacks[lib.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED](None, beta, "virtio-disk1", None)
        found = events.wait(0)
    assert [(one.guest_uuid, one.stopped, one.adds_none) for one in found] == [
        (BETA, False, False),
        (BETA, False, False),
        (BETA, False, True),
    ]


def test_a_writer_that_is_known_waits_for_no_guest_of_which_libvirt_tells_late(
    host: Host, libvirt: Libvirt, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(host, libvirt, GAMMA)  # its backup stays open
    machine.has(GAMMA, "vda", "third")
    machine.has(BETA, "vdz", "lun")
    by_then = list[str]()

    def asked(hypervisor: Hypervisor, uuid: str) -> list[DiskUse]:
        if uuid != DELTA:
            return machine.one(hypervisor, uuid)
        by_then.append(reason(host))
        raise LibvirtHangsError("libvirt has not answered.")

    monkeypatch.setattr(storage_looks, "uses_of_guest", asked)
    watch = WriterWatch(host)
    watch.take([came(), came(DELTA)])
    held(host, ALPHA, GAMMA)
    watch.take([])
    first, second = by_then
    assert first == ""
    assert "guest beta" in second


@pytest.mark.parametrize("whose", ["come", "late", "captured"])
def test_guests_are_asked_for_side_by_side(
    whose: str, host: Host, libvirt: Libvirt, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answers only when the other is asked too: one after another, neither would, and each would cost its time."""
    begin(host, libvirt, GAMMA)
    machine.has(GAMMA, "vda", "third")
    machine.has(BETA, "vdz", "lun")
    machine.has(DELTA, "vdz", "third")
    both = {ALPHA, GAMMA} if whose == "captured" else {BETA, DELTA}
    together = threading.Barrier(2)

    def one(hypervisor: Hypervisor, uuid: str) -> list[DiskUse]:
        if uuid in both:
            together.wait(5.0)
        return machine.one(hypervisor, uuid)

    watch = WriterWatch(host)
    monkeypatch.setattr(writers, "ONE_S", 0.5)
    if whose == "late":
        with monkeypatch.context() as away:
            away.setattr(storage_looks, "uses_of_guest", unanswered)
            watch.take([came(), came(DELTA)])
    held(host, ALPHA, GAMMA)
    monkeypatch.setattr(storage_looks, "uses_of_guest", one)
    watch.take([] if whose == "late" else [came(), came(DELTA)])
    assert "guest beta" in reason(host)
    assert "guest delta" in reason(host, GAMMA)


def unanswered(*_: object) -> list[DiskUse]:
    raise LibvirtHangsError("libvirt has not answered.")


def test_of_more_guests_than_are_asked_for_at_once_each_is_asked_for(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_looks, "AT_ONCE", 2)
    monkeypatch.setattr(
        storage_looks, "uses_of_guest", lambda _, uuid: [DiskUse(uuid, uuid, "vda", frozenset(), frozenset())]
    )
    found = storage_looks.looks(host, [ALPHA, BETA, GAMMA, ALPHA], 5.0)
    assert {uuid: [use.guest for use in look.uses] for uuid, look in found.items()} == {
        uuid: [uuid] for uuid in (ALPHA, BETA, GAMMA)
    }
