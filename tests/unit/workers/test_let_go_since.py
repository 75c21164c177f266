"""A guest that the guard has let go since its hold: what others do to it later is not undone. Nor does any guest stay held."""

from __future__ import annotations

import json
from pathlib import Path

import libvirt
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.words import HoldKind
from tests.unit.workers.hold_site import CAPTURE, FREEZE, PAUSE, Site, results, retire
from workers.guard.lease import LeaseFiles, leases
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_held_guest import HeldFake, no_answer
from workers.journal import LetGoChange, ReturnedChange, ThawPendingChange
from workers.steps import undo
from workers.steps.undo import undo_capture

BOTH = GuestHold(kind=HoldKind.FREEZE_PAUSE)


class Unconfirmed:
    """A guest that was told to go in its hold and did not confirm that it runs."""

    def __init__(self, site: Site, hold: GuestHold, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake = site.guests["host-a"][0]
        self.host = site.hosts["host-a"]
        self.journal = self.host.journal.of(CAPTURE)
        self.files = LeaseFiles(self.host.settings.state_dir)
        monkeypatch.setattr(backup, "end", lambda *_: True)
        monkeypatch.setattr(undo, "settle", lambda *_, **__: None)
        real = HeldFake.agent_command

        def deaf(fake: HeldFake, command: str, timeout_s: int) -> str:
            if fake is self.fake and fake.frozen:
                raise no_answer()
            return real(fake, command, timeout_s)

        self.fake.lies_about_resume = True
        with monkeypatch.context() as patch:
            patch.setattr(HeldFake, "agent_command", deaf)
            results(site.hold(hold=hold))
        self.fake.lies_about_resume = False

    def let_go_by_guard(self) -> None:
        self.fake.state_code, self.fake.frozen = libvirt.VIR_DOMAIN_RUNNING, False
        retire(self.files, self.fake.uuid)

    def hold_again(self, by: str) -> None:
        self.fake.log.clear()
        if by == "paused":
            self.fake.state_code = libvirt.VIR_DOMAIN_PAUSED
        else:
            self.fake.frozen = True

    def is_held(self) -> bool:
        return self.fake.paused or self.fake.frozen

    def undo(self) -> list[str]:
        return undo_capture(self.host, self.journal, sealed=())

    def has(self, change: type[LetGoChange | ReturnedChange]) -> bool:
        return any(isinstance(one, change) for one in self.journal.guest(self.fake.uuid).read().changes)


@pytest.mark.case("P4")
@pytest.mark.parametrize(("hold", "by"), [(PAUSE, "paused"), (FREEZE, "frozen"), (BOTH, "paused"), (BOTH, "frozen")])
def test_what_others_do_to_a_guest_that_the_guard_has_let_go_is_not_undone(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold, by: str
) -> None:
    guest = Unconfirmed(site, hold, monkeypatch)
    assert guest.has(ReturnedChange)
    guest.let_go_by_guard()
    guest.hold_again(by)
    assert guest.undo() == []
    assert guest.is_held()
    assert guest.fake.log == []
    assert guest.has(LetGoChange)
    assert guest.host.claims.holder(guest.fake.uuid) is None


@pytest.mark.case("P4")
@pytest.mark.parametrize("hold", [PAUSE, FREEZE, BOTH])
def test_a_guest_whose_lease_is_still_there_is_let_go(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold
) -> None:
    """The guard may be dead."""
    guest = Unconfirmed(site, hold, monkeypatch)
    assert guest.is_held()
    assert guest.undo() == []
    assert not guest.is_held()


@pytest.mark.case("P4")
@pytest.mark.parametrize(
    "how", ["the leases are gone", "the lease cannot be read", "a newer lease", "leases are a file"]
)
def test_where_it_is_not_known_whether_the_guard_let_the_guest_go_undoing_does(
    site: Site, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It must not stay held."""
    guest = Unconfirmed(site, PAUSE, monkeypatch)
    directory = guest.host.settings.state_dir / "leases"
    lease = directory / f"{CAPTURE}.json"
    if how == "the lease cannot be read":
        lease.write_text("{")
    elif how == "a newer lease":
        lease.write_text(json.dumps({"v": 2, "guests": []}))
    else:
        lease.unlink()
        directory.rmdir()
        if how == "leases are a file":
            directory.write_text("")
    assert leases(guest.host.settings.state_dir, CAPTURE, guest.fake.uuid) is None
    guest.undo()
    assert not guest.is_held()


@pytest.mark.case("P4")
def test_a_guard_whose_leases_the_worker_does_not_see_proves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a state directory of its own: there never was a lease where the worker looks."""
    monkeypatch.setattr(LeaseFiles, "add", lambda *_: None)
    monkeypatch.setattr("tests.unit.workers.hold_site.retire", lambda *_: None)
    guest = Unconfirmed(site, PAUSE, monkeypatch)
    assert not guest.has(ReturnedChange)
    assert guest.undo() == []
    assert not guest.is_held()


@pytest.mark.case("S4")
def test_a_pause_that_failed_may_take_effect_yet_and_is_undone_whatever_the_guard_has_seen(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libvirtd died while QEMU stood still; the guest ran for long, and is paused when QEMU goes on."""

    def lost(_: Domain) -> None:
        raise HypervisorError("The connection is lost.")

    with monkeypatch.context() as patch:
        patch.setattr(Domain, "pause", lost)
        patch.setattr("workers.hold.verify_let_go", lambda *_: (_ for _ in ()).throw(HypervisorError("lost")))
        guest = Unconfirmed(site, PAUSE, monkeypatch)
    assert not guest.has(ReturnedChange)
    guest.let_go_by_guard()
    guest.hold_again("paused")
    assert guest.undo() == []
    assert not guest.is_held()


@pytest.mark.case("P4")
@pytest.mark.parametrize("retired", [True, False])
def test_a_thaw_that_waits_for_the_agent_is_over_when_the_guard_has_thawed_the_guest(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, retired: bool
) -> None:
    guest = Unconfirmed(site, FREEZE, monkeypatch)
    guest.journal.record(ThawPendingChange(guest_uuid=guest.fake.uuid))
    if retired:
        guest.let_go_by_guard()
    guest.hold_again("frozen")
    assert guest.undo() == []
    assert guest.is_held() == retired
    assert guest.host.claims.holder(guest.fake.uuid) is None


def test_a_guest_that_has_confirmed_that_it_runs_has_no_other_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    Unconfirmed(site, PAUSE, monkeypatch)
    other = site.guests["host-a"][1]
    changes = site.hosts["host-a"].journal.of(CAPTURE).guest(other.uuid).read().changes
    assert any(isinstance(one, LetGoChange) for one in changes)
    assert not any(isinstance(one, ReturnedChange) for one in changes)


def test_a_lease_names_a_guest_or_not(tmp_path: Path) -> None:
    guest, other = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
    assert leases(tmp_path, CAPTURE, guest) is None
    files = LeaseFiles(tmp_path)
    assert leases(tmp_path, CAPTURE, guest) is False
    lease = {"v": 1, "guests": [{"guest_uuid": guest, "hold": "pause"}], "deadline_s": 1.0, "boot_id": "b"}
    (tmp_path / "leases" / f"{CAPTURE}.json").write_text(json.dumps(lease))
    assert leases(tmp_path, CAPTURE, guest) is True
    assert leases(tmp_path, CAPTURE, other) is False
    files.remove(CAPTURE)
    assert leases(tmp_path, CAPTURE, guest) is False
