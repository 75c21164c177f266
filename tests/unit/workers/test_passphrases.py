"""Passphrases of scratch files: a keeper that is away is named, one that was restarted costs no capture (P3, G1)."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from freezeframe.barrier import Gate
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.proof import consistency
from freezeframe.contract.result import PreparedDisk, PrepareResult
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Step
from tests.unit.workers.hold_site import CAPTURE, Site, proof_of, results
from tests.unit.workers.test_encrypted_scratch import SECRET, libvirtd, make, opens
from workers import durable
from workers.host import Host
from workers.hypervisor import passphrases
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError, HypervisorUnreachableError
from workers.hypervisor.fake_guest import UUID, FakeGuest, libvirt_error
from workers.hypervisor.fake_held_guest import HeldFake, agent_command
from workers.hypervisor.fake_keeper import BROKEN, FakeKeeper, keeper_error, no_keeper
from workers.hypervisor.loan import Loan
from workers.hypervisor.passphrases import PassphrasesUnavailableError
from workers.journal import ClaimChange, FreedChange, HoldChange, ThawPendingChange
from workers.qemu_process import QemuProcess
from workers.scratch.files import renew_files, scratch_secret
from workers.steps import held_guest
from workers.steps import hold as step
from workers.steps.undo import undo_capture

__all__ = ["libvirtd"]

pytestmark = pytest.mark.case("P3")


def no_driver() -> libvirt.libvirtError:
    return keeper_error(libvirt.VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver")


@pytest.mark.case("G1")
@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [(no_keeper(), "systemctl start virtsecretd.socket"), (no_driver(), "libvirt-daemon-driver-secret")],
)
def test_a_keeper_that_is_away_is_named_with_the_remedy_before_anything_is_written_down(
    host: Host, libvirtd: FakeKeeper, refusal: libvirt.libvirtError, remedy: str
) -> None:
    libvirtd.refusal = refusal
    with pytest.raises(PassphrasesUnavailableError) as caught:
        make(host, secret=SECRET)
    assert remedy in caught.value.hint
    assert refusal.get_error_message() in caught.value.message
    assert [type(change) for change in host.journal.of(CAPTURE).changes()] == [ClaimChange]
    assert undo_capture(host, host.journal.of(CAPTURE), sealed=()) == []  # nothing of it waits for the keeper
    assert host.claims.holder(UUID) is None


def test_a_libvirt_that_is_away_itself_is_told_as_that(host: Host, libvirtd: FakeKeeper) -> None:
    libvirtd.refusal = keeper_error(libvirt.VIR_ERR_SYSTEM_ERROR, "Cannot recv data", libvirt.VIR_FROM_RPC)
    host.hypervisor._open = lambda: libvirtd  # type: ignore[method-assign]
    with pytest.raises(HypervisorUnreachableError, match="Cannot recv data"):
        make(host, secret=SECRET)


def test_a_guest_that_is_called_like_the_keeper_does_not_make_it_the_one_that_is_away(libvirtd: FakeKeeper) -> None:
    libvirtd.refusal = keeper_error(libvirt.VIR_ERR_SYSTEM_ERROR, "Keine Antwort", libvirt.VIR_FROM_RPC)
    with pytest.raises(HypervisorUnreachableError):
        passphrases.keep(libvirtd, SECRET, b"p", "scratch file of guest virtsecretd")
    libvirtd.refusal = keeper_error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        "Verbindung zu Socket '/run/libvirt/virtsecretd-sock' gescheitert",
        libvirt.VIR_FROM_RPC,
    )
    with pytest.raises(PassphrasesUnavailableError):
        passphrases.keep(libvirtd, SECRET, b"p", "scratch file of guest alpha")


class Restarted(FakeKeeper):
    """A connection whose daemon's own connection to the keeper has ended with that."""

    def _check(self) -> None:
        raise keeper_error(libvirt.VIR_ERR_INTERNAL_ERROR, BROKEN, libvirt.VIR_FROM_RPC)


def test_a_connection_that_the_keeper_s_end_has_spoiled_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled, fresh = Restarted(), FakeKeeper()
    hypervisor = Hypervisor("test:///default")
    hypervisor._idle.append(spoiled)
    monkeypatch.setattr(Hypervisor, "_open", lambda _: fresh)
    assert not hypervisor.has_secret(SECRET)
    hypervisor.keep_secret(SECRET, b"p", "a test")
    assert hypervisor.has_secret(SECRET)
    hypervisor.forget_secret(SECRET)
    assert (fresh.definitions, spoiled.definitions) == ({}, {})


def test_the_keeper_has_a_client_as_long_as_it_keeps_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtsecretd ends by itself when it has had none for 120 s, and loses all."""
    monkeypatch.setattr(Hypervisor, "_open", lambda _: FakeKeeper())
    hypervisor = Hypervisor("test:///default")
    hypervisor.keep_secret(SECRET, b"p", "a test")
    (one,) = hypervisor._kept.values()
    assert "b'p'" not in repr(replace(one, loan=Loan(None)))  # which a log may show
    kept = weakref.ref(one.loan.connection)
    del one
    hypervisor.close()
    gc.collect()
    assert kept() is not None
    monkeypatch.setattr(Hypervisor, "_open", lambda _: kept())
    hypervisor.forget_secret(SECRET)
    assert hypervisor._kept == {}


def encrypted(target: str = "vda", secret: str | None = SECRET) -> PreparedDisk:
    return PreparedDisk(
        target=target,
        source="/a",
        source_format="qcow2",
        size_bytes=1 << 20,
        kind=CaptureKind.FULL,
        scratch_secret=secret,
    )


def test_a_passphrase_that_was_lost_is_given_again(host: Host, libvirtd: FakeKeeper) -> None:
    path = make(host, secret=SECRET)
    first, definition, inode = libvirtd.values[SECRET], libvirtd.definitions[SECRET], path.stat().st_ino
    for _ in range(2):
        libvirtd.restart()
        assert renew_files(host, host.journal.of(CAPTURE), Domain(FakeGuest("")), [encrypted()]) == []
        assert (libvirtd.values[SECRET], libvirtd.definitions[SECRET]) == (first, definition)
    assert path.stat().st_ino == inode
    host.hypervisor.forget_secret(SECRET)
    assert not host.hypervisor.keep_again(SECRET)  # this process has forgotten it too


def test_a_worker_that_was_restarted_too_makes_another_one_and_the_file_anew(host: Host, libvirtd: FakeKeeper) -> None:
    path = make(host, secret=SECRET)
    first = libvirtd.values[SECRET]
    journal, domain = host.journal.of(CAPTURE), Domain(FakeGuest(""))
    written = journal.changes()
    assert renew_files(host, journal, domain, [encrypted()]) == []
    assert libvirtd.values[SECRET] == first
    assert opens(path, first)
    libvirtd.restart()
    host.hypervisor._kept.clear()
    assert renew_files(host, journal, domain, [encrypted()]) == [path]
    assert libvirtd.values[SECRET] != first
    assert opens(path, libvirtd.values[SECRET])
    assert not opens(path, first)
    assert journal.changes() == written  # which has it already


def test_a_disk_that_is_not_encrypted_is_not_asked_after(host: Host, libvirtd: FakeKeeper) -> None:
    libvirtd.refusal = no_keeper()
    renew_files(host, host.journal.of(CAPTURE), Domain(FakeGuest("")), [encrypted(secret=None)])


def test_a_keeper_that_is_away_at_the_release_is_named_and_keeps_no_room(
    host: Host, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Hypervisor, guest_uuid: str) -> Domain:
        raise GuestGoneError(f"no guest {guest_uuid}")

    monkeypatch.setattr(Hypervisor, "domain", gone)
    path, journal = make(host, secret=SECRET), host.journal.of(CAPTURE)
    libvirtd.refusal = no_keeper()
    for _ in range(2):
        (left,) = undo_capture(host, journal, sealed=())
        assert "systemctl start virtsecretd.socket" in left
    assert not path.exists()
    assert [type(change) for change in journal.changes()].count(FreedChange) == 1
    libvirtd.refusal = None
    assert undo_capture(host, journal, sealed=()) == []
    assert libvirtd.definitions == {}


def test_a_thaw_that_is_left_to_do_alone_means_that_no_passphrase_is(
    host: Host, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on recovery sends the thaw and looks at nothing else."""
    guest = HeldFake("<domain/>", uuid=UUID, label="alpha", state_code=libvirt.VIR_DOMAIN_PAUSED)  # no agent answers
    monkeypatch.setattr(Hypervisor, "domain", lambda _, guest_uuid: Domain({UUID: guest}[guest_uuid]))
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    make(host, secret=SECRET)
    journal = host.journal.of(CAPTURE)
    journal.record(HoldChange(guest_uuid=UUID, hold=HoldKind.FREEZE))
    libvirtd.refusal = no_keeper()
    assert len(undo_capture(host, journal, sealed=())) == 2
    assert ThawPendingChange(guest_uuid=UUID) not in journal.changes()
    libvirtd.refusal = None
    (left,) = undo_capture(host, journal, sealed=())
    assert "nobody knows whether it is thawed" in left
    assert ThawPendingChange(guest_uuid=UUID) in journal.changes()
    assert libvirtd.definitions == {}


@pytest.fixture
def given(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The scratch files that were given to a QEMU after prepare."""
    found: list[Path] = []

    def rehearse(host: Host, capture_id: str, qemu: QemuProcess, scratch: Sequence[Path]) -> None:
        assert (host.host_id, capture_id) == ("host-a", CAPTURE)
        assert qemu.uuid == site.guests["host-a"][0].uuid
        found.extend(scratch)

    monkeypatch.setattr(held_guest, "rehearse", rehearse)
    return found


@pytest.fixture
def secretive(site: Site, libvirtd: FakeKeeper, given: list[Path], monkeypatch: pytest.MonkeyPatch) -> HeldFake:
    """The first guest of host-a: its scratch file is encrypted, and its begin needs the passphrase, as QEMU's does."""
    host, fake = site.hosts["host-a"], site.guests["host-a"][0]
    journal = host.journal.of(CAPTURE)
    (path,) = journal.result_paths(Step.PREPARE)
    result = PrepareResult.model_validate_json(path.read_text())
    secret = scratch_secret(CAPTURE, fake.uuid, "vda")
    first, *others = result.guests
    disk = first.disks[0].model_copy(update={"scratch_secret": secret})
    guests = (first.model_copy(update={"disks": (disk,)}), *others)
    journal.store_result(Step.PREPARE, "", result.model_copy(update={"guests": guests}).model_dump_json())
    durable.make_directory(host.settings.scratch_dir)
    durable.make_directory(host.scratch_file(CAPTURE, fake.uuid, "vda").parent)
    begin = HeldFake.backupBegin

    def needs_passphrase(held: HeldFake, backup: str, checkpoint: str | None, flags: int) -> None:
        if secret in backup and secret not in libvirtd.values:
            raise libvirt_error(libvirt.VIR_ERR_NO_SECRET, f"no secret with matching uuid '{secret}'")
        begin(held, backup, checkpoint, flags)

    monkeypatch.setattr(HeldFake, "backupBegin", needs_passphrase)
    return fake


def test_a_keeper_that_was_restarted_between_prepare_and_hold_costs_nothing(
    site: Site, secretive: HeldFake, libvirtd: FakeKeeper, given: list[Path]
) -> None:
    path: Path = site.hosts["host-a"].scratch_file(CAPTURE, secretive.uuid, "vda")
    held = results(site.hold())
    assert consistency(proof_of(held)) is Consistency.GROUP
    (passphrase,) = libvirtd.values.values()
    assert opens(path, passphrase)
    assert given == [path]  # else it would be root's, and QEMU could not open it


def test_a_keeper_that_is_restarted_in_the_muster_is_told_as_that(
    site: Site, secretive: HeldFake, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet: Callable[[Gate, HoldOrder, float], None] = step._muster

    def muster(gate: Gate, order: HoldOrder, deadline: float) -> None:
        if order.host_id == "host-a":
            libvirtd.restart()
        meet(gate, order, deadline)

    monkeypatch.setattr(step, "_muster", muster)
    held = results(site.hold(all_or_nothing=False))
    (fault,) = held[0].guest_faults
    assert (fault.guest_uuid, fault.fault.code) == (secretive.uuid, "passphrase-lost")
    assert "guest-11, disk vda" in fault.fault.message
    assert held[1].guest_faults == ()
    assert site.held_ones() == []


@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
def test_a_keeper_that_is_away_before_the_muster_holds_nobody_of_that_guest(
    site: Site, secretive: HeldFake, libvirtd: FakeKeeper, *, everyone: bool
) -> None:
    libvirtd.refusal = no_keeper()
    answers = site.hold(all_or_nothing=everyone)
    assert secretive.log == []
    if everyone:
        assert isinstance(answers["host-a"], PassphrasesUnavailableError)
        assert isinstance(answers["host-b"], step.MusterError)
    else:
        held = results(answers)
        assert [one.fault.code for one in held[0].guest_faults] == ["passphrases-unavailable"]
        assert consistency(proof_of(held)) is Consistency.GROUP
