"""A guest whose freeze takes too long: told, remembered, and the next time nobody is held for it, whatever the policy (G3)."""

from __future__ import annotations

import pytest

from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HeldGuestFault, PrepareResult
from freezeframe.contract.words import Consistency, Step
from freezeframe.naming import NamedGuest
from tests.unit.workers.hold_site import CAPTURE, FREEZE, HOSTS, Site, proof_of, results
from workers.hypervisor.fake_held_guest import HeldFake
from workers.hypervisor.freeze_failure import SlowFreezeError
from workers.refusal import SlowGuestError
from workers.steps.held_guest import ready

pytestmark = pytest.mark.case("G3")
SLOWEST_MS = 60_000.0


@pytest.fixture
def slow(site: Site, monkeypatch: pytest.MonkeyPatch) -> HeldFake:
    """A guest whose freeze ends in no time that it is given."""
    one, freeze = site.guests["host-a"][0], HeldFake._freeze

    def never(fake: HeldFake) -> str:
        if fake is one:
            raise SlowFreezeError(NamedGuest(fake.label, fake.uuid), fake.freeze_timeouts[-1] + 0.001)
        return freeze(fake)

    monkeypatch.setattr(HeldFake, "_freeze", never)
    return one


def was_fast(site: Site, fake: HeldFake) -> None:
    """Have prepare expect that the guest is held at once, so that it starts as late as one may."""
    journal = site.hosts["host-a"].journal.of(CAPTURE)
    (path,) = journal.result_paths(Step.PREPARE)
    result = PrepareResult.model_validate_json(path.read_text())
    guests = tuple(
        guest.model_copy(update={"expected_hold_ms": 1.0}) if guest.guest_uuid == fake.uuid else guest
        for guest in result.guests
    )
    journal.store_result(Step.PREPARE, "", result.model_copy(update={"guests": guests}).model_dump_json())


@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
@pytest.mark.parametrize("starts", ["at once", "later"])
def test_it_is_refused_the_second_time_before_anybody_is_held(
    site: Site, slow: HeldFake, starts: str, *, everyone: bool
) -> None:
    """By default a freeze is given 7 s of the 7.5 s that are left for it; it was refused from 7.5 s on."""
    hold_s = 10.0 if starts == "at once" else 6.0
    changes = {"all_or_nothing": everyone, "hold_timeout_s": hold_s, "slowest_hold_ms": SLOWEST_MS}
    if starts == "later":
        was_fast(site, slow)
    a, b = results(site.hold(hold=FREEZE, **changes))
    assert [(one.guest_uuid, one.fault.code) for one in (*a.guest_faults, *b.guest_faults)] == [
        (slow.uuid, "slow-freeze")
    ]
    host, unfit = site.hosts["host-a"], list[HeldGuestFault]()
    again = site.order("host-a", FREEZE, **changes)
    if everyone:
        with pytest.raises(SlowGuestError):
            ready(host, again, host.journal.of(CAPTURE), unfit)
        return
    assert [guest.uuid for guest in ready(host, again, host.journal.of(CAPTURE), unfit)] == [
        fake.uuid for fake in site.guests["host-a"] if fake is not slow
    ]
    assert [one.guest_uuid for one in unfit] == [slow.uuid]


@pytest.mark.parametrize("everyone", [True, False], ids=["all", "degrade"])
def test_it_is_tried_again_in_the_hold_that_the_refusal_advises(site: Site, *, everyone: bool) -> None:
    slow = site.guests["host-a"][0]
    paces = site.hosts["host-a"].paces
    paces.remember_too_slow(slow.uuid, 7001.0)
    remembered = paces.too_slow(slow.uuid)
    assert remembered is not None
    advised = SlowGuestError(NamedGuest(slow.label, slow.uuid), remembered, all_or_nothing=everyone).hint
    hold_s = float(advised.split("--hold-timeout ")[1].split(",")[0])
    held = results(site.hold(hold=FREEZE, all_or_nothing=everyone, hold_timeout_s=hold_s))
    assert consistency(proof_of(held)) is Consistency.GROUP
    assert paces.too_slow(slow.uuid) is None
    assert len(held) == len(HOSTS)
