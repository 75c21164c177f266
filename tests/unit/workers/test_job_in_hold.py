"""A guest on which libvirt begins to work in the muster or in the hold: not held, or let go at once, and told with the job."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt
import libvirt_qemu
import pytest

from freezeframe.contract.words import HoldKind
from tests.unit.workers.test_guest_in_hold import HELD_BY, deadline, guest_of
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.steps.guest_in_hold import Phase

JOBS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "guest-migrating",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "guest-busy",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "guest-busy",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "guest-busy",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "guest-busy",
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldFake]:
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    one = held_fake(1)
    yield one
    one.suspending.set()
    one.beginning.set()


@pytest.mark.parametrize("operation", list(JOBS))
@pytest.mark.parametrize("kind", list(HoldKind))
def test_a_guest_on_which_libvirt_has_begun_to_work_since_the_muster_is_left_alone(
    fake: HeldFake, kind: HoldKind, operation: int
) -> None:
    fake.operation = operation
    guest = guest_of(fake, kind)
    guest.take(deadline())
    guest.release()
    assert fake.log == []
    assert guest.phase is Phase.LEFT_ALONE
    assert guest.is_settled()  # the guard must leave it alone too: it may run elsewhere by now
    assert [fault.code for fault in guest.faults] == [JOBS[operation]]


def test_a_guest_that_is_being_saved_is_told_as_saved_and_not_as_paused_by_somebody(fake: HeldFake) -> None:
    fake.operation, fake.state_code = libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE, libvirt.VIR_DOMAIN_PAUSED
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.take(deadline())
    (fault,) = guest.faults
    assert fault.code == "guest-busy"
    assert "save" in fault.message


@pytest.mark.parametrize("operation", list(JOBS))
@pytest.mark.parametrize("kind", [HoldKind.FREEZE, HoldKind.PAUSE, HoldKind.FREEZE_PAUSE])
def test_a_guest_on_which_libvirt_begins_to_work_while_it_is_taken_is_let_go_before_the_begin_would_wait(
    fake: HeldFake, kind: HoldKind, operation: int
) -> None:
    fake.moves = operation
    fake.beginning.clear()  # a begin would wait for the job
    guest = guest_of(fake, kind)
    guest.take(deadline())
    assert fake.log == [call for call in HELD_BY[kind] if call != "begin"]
    assert not fake.frozen
    assert not fake.paused
    assert guest.is_settled()
    assert [fault.code for fault in guest.faults] == [JOBS[operation]]


def test_a_guest_whose_job_is_not_known_is_not_held(fake: HeldFake, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: HeldFake) -> dict[str, int]:
        error = libvirt.libvirtError("cannot acquire state change lock")
        error.err = (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_QEMU, "no", 2, "", None, None, 0, 0)
        raise error

    monkeypatch.setattr(HeldFake, "jobStats", refused)
    guest = guest_of(fake, HoldKind.FREEZE)
    guest.take(deadline())
    assert fake.log == []
    assert guest.phase is Phase.LEFT_ALONE
    assert [fault.code for fault in guest.faults] == ["hypervisor"]
