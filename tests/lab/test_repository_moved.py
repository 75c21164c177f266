"""Captures that go to another repository: a line of their own, beside the old one, and one verb for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from freezeframe.repository import Repository
from ops.lab import Lab, LabSpec
from ops.lab.guest import Guest
from ops.system import System
from workers.hypervisor import lost
from workers.hypervisor.bitmaps import Found, ours_in
from workers.hypervisor.domain import Domain

from .exact import captured_exactly, checkpoints, detach, kinds, reasons

pytestmark = [pytest.mark.case("G7"), pytest.mark.long]  # a lab and a system of its own, whose parts start three times

WORKERS: Final = ("control", "data")
TARGETS: Final = ("vda", "vdb")
NONE_EARLIER: Final = "there is no earlier capture of it to build upon, or a full one was asked for"


class Moving:
    """A system whose settings name one repository or another; all parts that need one are started anew with them."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._env: dict[str, str] = {}
        self.system = System(lab, directory, self._env)

    def to(self, repository: Path) -> None:
        self._env["FREEZEFRAME_REPOSITORY"] = str(repository)
        hosts = self.system.lab.hosts.values()
        for name in ("orchestrator", *(f"{part}@{host.name}" for host in hosts for part in WORKERS)):
            self.system.end_part(name)
        self.system.start_part("orchestrator")
        for host in hosts:
            for part in WORKERS:
                self.system.start_part(part, host)
        self.system.wait_ready()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(LabSpec.of(hosts=1, guests=1, disks=2, size_mib=64), tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def moving(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moving]:
    made = Moving(lab, tmp_path_factory.mktemp("system"))
    with made.system:
        yield made


def write(guest: Guest, name: str) -> None:
    guest.shell(f"for at in /mnt/*; do dd if=/dev/urandom of=$at/{name} bs=64k count=16; done; sync")


def own_bitmaps(guest: Guest) -> list[str]:
    """The bitmaps of ours that the guest's QEMU has, one a disk and checkpoint."""
    return sorted(name for _, name in lost.own_bitmaps(Domain(guest.domain)))


def test_a_repository_elsewhere_begins_in_full_and_the_old_one_s_line_stays_until_the_guest_is_detached(
    lab: Lab, moving: Moving, tmp_path: Path
) -> None:
    guest, system = lab.guest("alpha"), moving.system
    first, second = system.repository_path, tmp_path / "elsewhere"
    captured_exactly(system, [guest], tmp_path)
    write(guest, "one")
    assert kinds(captured_exactly(system, [guest], tmp_path)) == {"incremental"}
    [of_first] = checkpoints(guest)

    Repository.init(second, label="elsewhere")
    moving.to(second)
    assert reasons(captured_exactly(system, [guest], tmp_path)) == {NONE_EARLIER}
    write(guest, "two")
    assert kinds(captured_exactly(system, [guest], tmp_path)) == {"incremental"}
    assert of_first in checkpoints(guest)  # nobody removes it
    [of_second] = set(checkpoints(guest)) - {of_first}
    assert own_bitmaps(guest) == sorted([of_first, of_second] * len(TARGETS))

    moving.to(first)  # what has changed meanwhile was recorded for it
    assert kinds(captured_exactly(system, [guest], tmp_path)) == {"incremental"}
    both = checkpoints(guest)
    assert of_second in both
    assert of_first not in both

    assert detach(system, guest)["checkpoints"] == both
    assert checkpoints(guest) == []
    assert own_bitmaps(guest) == []
    guest.shutdown()
    assert ours_in(guest.image(target) for target in TARGETS) == Found({}, {})
    guest.start()
    guest.wait_ready()
    [reason] = reasons(captured_exactly(system, [guest], tmp_path))
    assert reason is not None
    assert reason.endswith("is not on the guest any more")
