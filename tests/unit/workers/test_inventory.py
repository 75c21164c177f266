"""The inventory: one call for all guests, and one odd guest, claim or journal silences nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import libvirt
import pytest

from freezeframe.contract.inventory import StuckCapture
from freezeframe.repository import Repository
from workers import instance, inventory, recovery
from workers.claims import Claims
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.listing import GuestState, guest_states
from workers.inventory import entry_of
from workers.journal import ClaimChange
from workers.recovery import Recovered, State

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ODD = "00000000-0000-4000-8000-00000000000a"


def test_the_states_are_those_that_each_guest_tells(host: Host) -> None:
    [domain] = host.hypervisor.domains()
    assert guest_states(host.hypervisor) == [GuestState(domain.uuid, domain.name, "running")]
    domain.pause()
    assert guest_states(host.hypervisor)[0].state == domain.state() == "paused"
    domain.resume()


def test_all_guests_are_asked_for_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call for each guest takes as long as there are guests, and one that is undefined meanwhile has none to answer."""
    calls: list[int] = []

    class Guest:
        def UUIDString(self) -> str:  # noqa: N802  libvirt's name
            return ODD

        def name(self) -> str:
            return "odd"

    class Connection:
        def getAllDomainStats(self, stats: int) -> list[tuple[Guest, dict[str, int]]]:  # noqa: N802
            calls.append(stats)
            return [
                (Guest(), {"state.state": libvirt.VIR_DOMAIN_PAUSED}),
                (Guest(), {"state.state": 99}),
                (Guest(), {}),
            ]

    monkeypatch.setattr(Hypervisor, "lend", lambda _: SimpleNamespace(connection=Connection()))
    assert [one.state for one in guest_states(Hypervisor("test:///default"))] == ["paused", "unknown", "unknown"]
    assert calls == [libvirt.VIR_DOMAIN_STATS_STATE]


@pytest.mark.case("S5")
def test_a_guest_in_trouble_shows_as_such_and_the_others_as_they_are(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    [domain] = host.hypervisor.domains()
    states = [GuestState(domain.uuid, domain.name, "running"), GuestState(ODD, "odd", "running")]
    monkeypatch.setattr(inventory, "guest_states", lambda _: states)
    host.claims.take(domain.uuid, CAPTURE)
    (host.settings.state_dir / "claims" / ODD).write_text("{")
    odd, fine = entry_of(host).guests
    assert (fine.captured_by, fine.trouble) == (CAPTURE, None)
    assert odd.captured_by is None
    assert ODD in (odd.trouble or "")


@pytest.mark.case("S5")
def test_a_stuck_capture_is_told_with_the_name_of_its_file(host: Host) -> None:
    Repository.init(host.repository, chunk_bytes=4096)
    host.claims.take(ODD, CAPTURE)
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid=ODD))
    path = host.settings.state_dir / "captures" / CAPTURE / ODD / "changes"
    path.write_text("damaged\n")
    looks = recovery.Looks()
    looks.note(recovery.recover(host))
    [stuck] = entry_of(host, looks).stuck
    assert stuck.capture_id == CAPTURE
    assert str(path) in stuck.problems[0]


def test_what_recovery_left_is_in_the_entry_until_it_is_undone(host: Host) -> None:
    looks = recovery.Looks()
    looks.note([Recovered(CAPTURE, State.STUCK, ("why",)), Recovered(CAPTURE, State.BUSY)])
    assert entry_of(host, looks).stuck == (StuckCapture(capture_id=CAPTURE, problems=("why",)),)
    looks.note([Recovered(CAPTURE, State.UNDONE)])
    assert entry_of(host, looks).stuck == ()


@pytest.mark.case("S11")
def test_the_entry_says_which_worker_takes_orders_of_each_queue(host: Host) -> None:
    """Another process than before is another worker, whatever its number."""
    state_dir = host.settings.state_dir
    assert (entry_of(host).control_instance, entry_of(host).data_instance) == ("", "")
    instance.begin(state_dir, instance.CONTROL)
    first = entry_of(host)
    instance.begin(state_dir, instance.DATA)
    instance.begin(state_dir, instance.CONTROL)
    second = entry_of(host)
    assert first.control_instance not in {"", second.control_instance}
    assert second.data_instance not in {"", second.control_instance}


@pytest.mark.case("S7")
def test_the_entry_tells_the_highest_epoch_that_a_guest_has_seen(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert entry_of(host).highest_epoch == 0
    host.claims.fence(ODD, 12)  # also of a guest that is gone: it may come back
    assert entry_of(host).highest_epoch == 12

    def failing(_: Claims) -> int:
        raise OSError("Input/output error")

    monkeypatch.setattr(Claims, "highest_epoch", failing)
    assert entry_of(host).guests  # the host is in the inventory all the same
