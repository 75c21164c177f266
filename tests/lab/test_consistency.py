"""One instant, proven by a workload: no capture labelled `group` may show a guest that knows more than its source does.

And the test is one: with the barrier taken away it finds inconsistent captures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from ops.lab import Lab
from ops.system import System

from .command import Command
from .relay import Relay, freeze_slowly, last_known, relay_lab
from .traces import traces

TIMES, LONG_TIMES = 8, 160  # and a quarter as many with staggered starts
#: How much longer the second guest's freeze takes than the first's: where a missing barrier shows.
SLOW_S = 0.5
#: And where it is missing: time for the first to freeze, begin, thaw and write, whatever else the machine does meanwhile.
BROKEN_SLOW_S = 5.0

#: A Python that starts with this on its path has a barrier at which hosts report and wait for nobody. What such a host then
#: says of itself is a lie that no proof can see through, since no two clocks are compared; only the data can.
_WITHOUT_BARRIER = """
from freezeframe.barrier.gate import Gate

real = Gate.meet

def meet(gate, deadline, visit=""):
    if gate._key.endswith(":held"):
        gate.own_us = gate._call("arrive", deadline, visit=visit).own_us
    else:
        real(gate, deadline, visit)

Gate.meet = meet
"""


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(relay_lab(), tmp_path_factory.mktemp("relay")) as lab:
        freeze_slowly(lab.guest("second"), SLOW_S)
        yield lab


def knowledge(repository: Repository, capture_id: str, directory: Path) -> tuple[int, int]:
    """The last number that each guest knows in this capture."""
    found = {}
    for guest, disk in repository.manifest(capture_id).disks():
        image = directory / f"{guest.name}.raw"
        with image.open("wb") as file, repository.disk_reader(disk.index) as reader:
            file.truncate(disk.size_bytes)
            for extent in reader:
                if extent.data is not None:
                    file.seek(extent.offset)
                    file.write(extent.data)
        found[guest.name] = last_known(image)
    return found["first"], found["second"]


def forget_paces(system: System) -> None:
    """Without their memory hosts do not stagger the starts, which would hide most of what a barrier is for."""
    for path in system.directory.glob("*/state/paces/*"):
        path.unlink()


def captured(
    lab: Lab, system: System, times: int, directory: Path, *, staggered: bool = True
) -> list[tuple[str, int, int]]:
    """Label and knowledge of that many captures, taken while the guests write."""
    command = Command(system)
    found = []
    with Relay(lab) as relay:
        while relay.carried < 20:
            time.sleep(0.05)
        for _ in range(times):
            if not staggered:
                forget_paces(system)
            outcome = command("capture", "first", "second")
            assert outcome.code == 0, outcome.answer
            known = knowledge(system.repository, outcome.answer["capture_id"], directory)
            found.append((outcome.answer["consistency"], *known))
        carried = relay.carried
    assert carried > times  # the guests did write all the while
    assert len({first for _, first, _ in found}) == times
    assert all(first > 0 and second > 0 for _, first, second in found)
    return found


@pytest.mark.timeout(1800)
def test_no_group_capture_is_inconsistent(relayed: Lab, tmp_path: Path) -> None:
    _check(relayed, TIMES, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_group_capture_of_two_hundred_is_inconsistent(
    relayed: Lab, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    _check(relayed, LONG_TIMES, tmp_path)
    record_property("captures", LONG_TIMES + LONG_TIMES // 4)
    record_property("inconsistent", 0)


def _check(lab: Lab, times: int, directory: Path) -> None:
    with System(lab, directory / "system") as system:
        found = captured(lab, system, times, directory, staggered=False)
        found += captured(lab, system, times // 4, directory)
        assert {label for label, _, _ in found} == {"group"}
        assert [known for known in found if known[2] > known[1]] == []
        assert traces(system) == []


@pytest.mark.timeout(1800)
def test_without_the_barrier_inconsistent_captures_are_found(relayed: Lab, tmp_path: Path) -> None:
    """The proof of the test above: taken away what it tests, it fails."""
    freeze_slowly(relayed.guest("second"), BROKEN_SLOW_S)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(_WITHOUT_BARRIER)
    with System(relayed, tmp_path / "system", {"PYTHONPATH": str(tmp_path / "broken")}) as system:
        found = captured(relayed, system, 2, tmp_path, staggered=False)
    assert all(label == "group" for label, _, _ in found)
    assert all(second > first for _, first, second in found)
