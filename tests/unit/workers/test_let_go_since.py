"""A guest that the guard has let go since its hold: what others do to it later is not undone. Nor does any guest stay held."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import libvirt
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import ReleaseOrder
from freezeframe.contract.words import HoldKind
from tests.unit.workers.hold_site import CAPTURE, FREEZE, PAUSE, Site, results, retire
from workers.guard.lease import LeasedGuest, LeaseFiles, leased
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_held_guest import HeldFake, no_answer
from workers.journal import LetGoChange, ThawPendingChange
from workers.recovery import State, recover
from workers.steps import undo
from workers.steps.held_guest import ready
from workers.steps.hold import MusterError
from workers.steps.let_go_since import GuardElsewhereError
from workers.steps.release import release
from workers.steps.undo import undo_capture, undo_guests

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

    def was_let_go(self) -> bool:
        return any(isinstance(one, LetGoChange) for one in self.journal.guest(self.fake.uuid).read().changes)


@pytest.mark.case("P4")
@pytest.mark.parametrize(("hold", "by"), [(PAUSE, "paused"), (FREEZE, "frozen"), (BOTH, "paused"), (BOTH, "frozen")])
def test_what_others_do_to_a_guest_that_the_guard_has_let_go_is_not_undone(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold, by: str
) -> None:
    guest = Unconfirmed(site, hold, monkeypatch)
    assert not guest.was_let_go()
    guest.let_go_by_guard()
    guest.hold_again(by)
    assert guest.undo() == []
    assert guest.is_held()
    assert guest.fake.log == []
    assert guest.was_let_go()
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
    assert leased(guest.host.settings.state_dir, CAPTURE) is None
    guest.undo()
    assert not guest.is_held()


@pytest.mark.case("S4")
def test_a_pause_that_failed_may_take_effect_yet_and_is_undone_while_its_lease_is_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libvirtd died while QEMU was suspended, and the guest is paused when QEMU continues: until then no lease is retired."""
    pause = Domain.pause

    def lost(domain: Domain) -> None:
        if domain.uuid == site.guests["host-a"][0].uuid:
            raise HypervisorError("The connection is lost.")
        pause(domain)

    with monkeypatch.context() as patch:
        patch.setattr(Domain, "pause", lost)
        patch.setattr("workers.hold.verify_let_go", lambda *_: (_ for _ in ()).throw(HypervisorError("lost")))
        guest = Unconfirmed(site, PAUSE, monkeypatch)
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


class Died:
    """A host whose worker died in a hold: nothing after it was written down. Its first guest is the one that is looked at."""

    def __init__(self, site: Site, hold: GuestHold, monkeypatch: pytest.MonkeyPatch, *, armed: bool = True) -> None:
        self.host = site.hosts["host-a"]
        self.fake, self.other = site.guests["host-a"]
        self.journal = self.host.journal.of(CAPTURE)
        self.files = LeaseFiles(self.host.settings.state_dir)
        monkeypatch.setattr(backup, "end", lambda *_: True)
        monkeypatch.setattr(undo, "settle", lambda *_, **__: None)
        order = site.order("host-a", hold)
        guests = ready(self.host, order, self.journal, [])
        if armed:
            leased_guests = [LeasedGuest(guest_uuid=one.uuid, hold=hold.kind) for one in guests]
            site.guards["host-a"].line(self.host.settings.guard_socket).arm(CAPTURE, leased_guests, 6.0)
        for one in (self.fake, self.other):
            one.frozen = armed and hold.kind.freezes
            one.state_code = libvirt.VIR_DOMAIN_PAUSED if armed and hold.kind.pauses else libvirt.VIR_DOMAIN_RUNNING

    def retire(self) -> None:
        """Let all go, as the guard does when the worker hangs up, and retire the lease."""
        self.run()
        retire(self.files, self.fake.uuid, self.other.uuid)

    def run(self) -> None:
        for one in (self.fake, self.other):
            one.state_code, one.frozen = libvirt.VIR_DOMAIN_RUNNING, False

    def hold_by_others(self, by: str) -> None:
        for one in (self.fake, self.other):
            one.log.clear()
        self.fake.frozen = by == "frozen"
        self.fake.state_code = libvirt.VIR_DOMAIN_PAUSED if by == "paused" else libvirt.VIR_DOMAIN_RUNNING

    def is_held(self) -> bool:
        return self.fake.paused or self.fake.frozen

    def undo_by(self, way: str) -> None:
        if way == "release":
            now = datetime.now(UTC) + timedelta(hours=1)
            order = ReleaseOrder(capture_id=CAPTURE, epoch=1, host_id="host-a", not_after=now, sealed_guests=())
            assert release(self.host, order).warnings == ()
        elif way == "recover":
            assert [one.state for one in recover(self.host)] == [State.UNDONE]
        elif way == "recover --force":
            assert [one.state for one in recover(self.host, force=True)] == [State.UNDONE]
        else:
            assert way == "the repository is away"
            assert undo_guests(self.host, self.journal, sealed=None) == []


WAYS = ["release", "recover", "recover --force", "the repository is away"]
HELD_BY = [
    (PAUSE, "paused"),
    (FREEZE, "frozen"),
    (BOTH, "paused"),
    (BOTH, "frozen"),
    (PAUSE, "frozen"),
    (FREEZE, "paused"),
]


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis knows nothing of the run any more, and the repository has no manifest of it."""
    monkeypatch.setattr("workers.recovery.run_state", lambda *_: None)
    monkeypatch.setattr("workers.recovery._Sealed.guests", lambda *_: set())


@pytest.mark.case("P4", "S4")
@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("hold", "by"), HELD_BY)
def test_what_others_do_to_a_guest_after_the_worker_died_in_the_hold_is_not_undone(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold, by: str, way: str
) -> None:
    host = Died(site, hold, monkeypatch)
    host.retire()
    host.hold_by_others(by)
    host.undo_by(way)
    assert host.is_held()
    assert host.fake.log == []
    host.undo_by("the repository is away")
    assert host.is_held()


@pytest.mark.case("P4", "S4")
@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hold", [PAUSE, FREEZE, BOTH])
def test_a_guest_whose_worker_died_in_the_hold_is_let_go_while_its_lease_is_there(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold, way: str
) -> None:
    """The guard may be dead too."""
    host = Died(site, hold, monkeypatch)
    assert host.is_held()
    host.undo_by(way)
    assert not site.held_ones()


@pytest.mark.case("P4", "S4")
@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("hold", [PAUSE, FREEZE, BOTH])
def test_a_guest_whose_worker_died_and_whose_lease_cannot_be_read_is_let_go(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold
) -> None:
    host = Died(site, hold, monkeypatch)
    lease = host.host.settings.state_dir / "leases" / f"{CAPTURE}.json"
    lease.write_text(lease.read_text()[:20])
    host.undo_by("recover")
    assert not site.held_ones()


@pytest.mark.case("P4", "S4")
@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("hold", "by"), HELD_BY)
def test_a_guest_that_was_never_held_because_the_worker_died_at_the_muster_is_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, hold: GuestHold, by: str, way: str
) -> None:
    """The hold is in the journal before the muster, and no lease was armed: whoever holds it, it is not the capture."""
    host = Died(site, hold, monkeypatch, armed=False)
    host.hold_by_others(by)
    host.undo_by(way)
    assert host.is_held()
    assert host.fake.log == []


@pytest.mark.case("P4", "S4")
@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("way", WAYS)
def test_a_guest_that_was_disarmed_before_the_worker_died_is_left_alone_and_the_other_is_let_go(
    site: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """It had said that it runs, and the worker died before it could write that down."""
    host = Died(site, PAUSE, monkeypatch)
    retire(host.files, host.fake.uuid)
    host.hold_by_others("paused")
    host.other.state_code = libvirt.VIR_DOMAIN_PAUSED
    host.undo_by(way)
    assert host.fake.log == []
    assert host.is_held()
    assert host.other.log == ["resume"]


@pytest.mark.case("P4")
def test_a_guard_that_keeps_its_leases_elsewhere_lets_no_guest_be_held(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash a lease that never was there would be taken for one that is over."""
    monkeypatch.setattr(LeaseFiles, "add", lambda *_: None)
    answers = site.hold()
    state_dir = site.hosts["host-a"].settings.state_dir
    error = answers["host-a"]
    assert isinstance(error, GuardElsewhereError | MusterError)
    assert isinstance(answers["host-b"], GuardElsewhereError | MusterError)
    assert any(isinstance(one, GuardElsewhereError) for one in answers.values())
    elsewhere = next(one for one in answers.values() if isinstance(one, GuardElsewhereError))
    assert "state_dir" in (elsewhere.hint or "")
    assert state_dir.parent.as_posix() in str(elsewhere)
    assert not any(fake.log for fake in site.fakes.values())
    for host in ("host-a", "host-b"):
        held, let_go = site.journalled(host)
        assert held == let_go


def test_a_lease_names_a_guest_or_not(tmp_path: Path) -> None:
    guest = "00000000-0000-4000-8000-00000000000a"
    assert leased(tmp_path, CAPTURE) is None
    files = LeaseFiles(tmp_path)
    assert leased(tmp_path, CAPTURE) == frozenset()
    lease = {"v": 1, "guests": [{"guest_uuid": guest, "hold": "pause"}], "deadline_s": 1.0, "boot_id": "b"}
    (tmp_path / "leases" / f"{CAPTURE}.json").write_text(json.dumps(lease))
    assert leased(tmp_path, CAPTURE) == frozenset({guest})
    files.remove(CAPTURE)
    assert leased(tmp_path, CAPTURE) == frozenset()
