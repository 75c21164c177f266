"""Storage of one guest that stands still, as NFS whose server is gone: it costs that guest its part, and no other anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from ops.lab import DiskSpec, Lab
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System
from workers.hypervisor import backup
from workers.hypervisor.domain import Domain

from .away import Away
from .command import Command, Outcome
from .exact import captured_exactly
from .inventory import one_more_guest, published
from .muster import mustering
from .traces import traces

pytestmark = [pytest.mark.case("G4"), pytest.mark.long]  # the patience of a prepare, and what a thaw waits for

PARTIAL: Final = 10
HOST: Final = "host-a"
HOLD_S: Final = 5.0
#: On top of that, for a host that lets go by itself: an exchange with Redis that was begun just before the deadline.
EXCHANGE_S: Final = 2.0
#: Seconds for a thaw that the agent did not answer to be sent again, and answered.
SETTLED_S: Final = 90.0


@pytest.fixture(scope="module")
def storage(lab: Lab) -> Iterator[Away]:
    made = Away(lab.host(HOST), "stuck")
    yield made
    made.remove()


@pytest.fixture(scope="module")
def stuck(lab: Lab, system: System, storage: Away) -> Iterator[Guest]:
    """A guest of host-a on that storage, which its writer writes to all the time."""
    with one_more_guest(system, lab, HOST, "stuck", [DiskSpec(source=storage.image)]) as guest:
        yield guest


@pytest.fixture
def goes_on(lab: Lab, system: System, stuck: Guest, tmp_path: Path) -> Iterator[None]:
    """After the test: the guest runs and writes as before, nothing is left, and both guests are captured rightly."""
    yield
    stuck.wait_agent()
    wait_for("nothing to be left", lambda: not traces(system), SETTLED_S)
    assert stuck.fsfreeze_status() == "thawed"
    last = stuck.acked("vda")
    wait_for("its writer to write on", lambda: stuck.acked("vda") > last, SETTLED_S)
    published(system, stuck.name, "running")
    captured_exactly(system, [lab.guest("alpha"), stuck], tmp_path, "--hold-timeout", "30")
    for pace in system.directory.glob("*/state/paces/*"):
        pace.unlink()  # its freeze was slow: the next test's would be refused for that


def words(stuck: Guest, *others: str) -> list[str]:
    return ["capture", *others, stuck.name, "--hold-timeout", f"{HOLD_S:g}", "--policy", "degrade"]


def fault_of(system: System, outcome: Outcome, stuck: Guest, *others: str) -> str:
    """Return the code of the stuck guest's fault, the only one.

    The others are sealed at one instant, were held within their bound, and have no backup any more.
    """
    assert outcome.code == PARTIAL, outcome.stderr
    (fault,) = outcome.answer["faults"]
    assert fault["guest"] == stuck.name
    assert {one["guest"]: one["consistency"] for one in outcome.answer["guests"]} == dict.fromkeys(others, "group")
    proof = system.repository.manifest(outcome.answer["capture_id"]).proof
    assert proof is not None
    for hold_ms in (guest.hold_ms for host in proof.hosts for guest in host.guests):
        assert hold_ms is not None
        assert hold_ms <= (HOLD_S + EXCHANGE_S) * 1000
    for name in others:
        assert backup.current_socket(Domain(system.lab.guest(name).domain)) is None
    return str(fault["code"])


@pytest.mark.usefixtures("goes_on")
def test_storage_that_stands_still_before_a_capture_costs_its_own_guest_alone(
    system: System, command: Command, storage: Away, stuck: Guest
) -> None:
    with storage.standing_still():
        outcome = command(*words(stuck, "alpha"))
        assert fault_of(system, outcome, stuck, "alpha") == "guest-hangs"


@pytest.mark.usefixtures("goes_on")
def test_storage_that_stands_still_right_before_the_hold_costs_its_own_guest_alone(
    system: System, command: Command, storage: Away, stuck: Guest
) -> None:
    """Nothing looks at the guest between that and the freeze, which its agent does not end."""
    with ExitStack() as standing:
        with mustering(system, lambda: command.begin(*words(stuck, "alpha", "gamma"))) as capturing:
            standing.enter_context(storage.standing_still())
        outcome = command.finish(capturing)
        assert fault_of(system, outcome, stuck, "alpha", "gamma") == "slow-freeze"
