"""A real orchestrator captures a fleet over a real Redis: what one more guest costs, in counts.

Redis is asked what it did. Nothing that depends on time is counted: the reconciler rests, hosts do not publish themselves
again, and a worker waits for an order as long as it takes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe.contract.words import Consistency, RunState
from ops.fleet.counts import Counts
from ops.fleet.made_up import MadeUp
from ops.fleet.site import Site
from ops.measure.barrier import redis_server
from tests.scale.test_growth import MOST_GROWTH

GUESTS_A_HOST, DISKS = 10, 2
#: Of each size: all that there is for one guest with two disks, on a host of ten, from the request to the end. Most of the
#: commands are Celery's, a dozen for each order; most of the bytes are definitions and orders.
MOST_COMMANDS = 120.0
MOST_BYTES = 85_000.0
MOST_BYTES_KEPT = 26_000.0
#: Two transfers, and a tenth of an order to prepare, one to hold and one to release; a chord's body for each step.
MOST_MESSAGES = 2.4


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in memory: a thousand journals are written in earnest, and are of no use afterwards."""
    made = Path(tempfile.mkdtemp(prefix="ff-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


def captured(directory: Path, hosts: int) -> Counts:
    """Return what Redis did for a capture of so many hosts."""
    made_up = MadeUp(hosts, GUESTS_A_HOST, DISKS)
    directory.mkdir()
    with (
        redis_server() as url,
        Site(directory, url, FREEZEFRAME_RECONCILE_INTERVAL_S="3600") as site,
        site.fleet(made_up) as fleet,
    ):
        fleet.tell("take-orders")
        fleet.tell("publish")
        before = Counts.of(site.redis)
        course = site.capture()
        counts = Counts.of(site.redis) - before
        assert course.receipt is not None
        assert (course.receipt.state, course.receipt.consistency) == (RunState.DONE, Consistency.GROUP)
        assert (course.receipt.faults, course.receipt.warnings) == ((), ())
        sealed = site.repository.manifest(course.capture_id)
        assert len({guest.guest_uuid for guest in sealed.guests}) == made_up.guests
    return counts


def a_guest(counts: Counts, guests: int) -> dict[str, float]:
    return {
        "commands": counts.commands.total() / guests,
        "bytes on the wire": (counts.bytes_in + counts.bytes_out) / guests,
        "bytes kept": counts.bytes_kept / guests,
        "messages": counts.messages / guests,
    }


def check(small: dict[str, float], large: dict[str, float]) -> None:
    grown = {name: cost / small[name] for name, cost in large.items() if cost > MOST_GROWTH * small[name]}
    assert not grown, f"{small} for a guest of the small capture, {large} for one of the large"
    assert large["commands"] <= MOST_COMMANDS
    assert large["bytes on the wire"] <= MOST_BYTES
    assert large["bytes kept"] <= MOST_BYTES_KEPT
    assert large["messages"] <= MOST_MESSAGES


def test_a_guest_costs_the_same_with_a_hundred_and_with_a_thousand_others(directory: Path) -> None:
    small, large = (a_guest(captured(directory / str(hosts), hosts), hosts * GUESTS_A_HOST) for hosts in (10, 100))
    check(small, large)


def test_a_small_capture_costs_no_more_than_its_own_share(directory: Path) -> None:
    """Of ten guests: what a capture costs as such, however small, is less than what its ten guests do."""
    cost = a_guest(captured(directory / "one", 1), GUESTS_A_HOST)
    assert cost["commands"] <= 2 * MOST_COMMANDS
    assert cost["bytes on the wire"] <= 2 * MOST_BYTES


@pytest.mark.long
def test_a_guest_costs_the_same_with_ten_thousand_others(directory: Path) -> None:
    small, large = (a_guest(captured(directory / str(hosts), hosts), hosts * GUESTS_A_HOST) for hosts in (10, 1000))
    check(small, large)
