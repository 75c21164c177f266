"""Storage that does not answer under guests of a host: it costs no other guest its answer, and one bound in all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from freezeframe.errors import FreezeframeError
from workers.bounded import GuestCalls
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import HypervisorError
from workers.identity import asking, uses
from workers.identity.asking import Question, ask_all
from workers.identity.places import Places, places_of
from workers.identity.storage import SYS
from workers.steps import sole_writer

#: Far longer than anything here takes, so that what waits for it is not to be mistaken for what does not.
LONG_S = 30.0


class Guest:
    """A running guest with one disk, as far as its storage is asked for."""

    def __init__(self, number: int, disk: str, pools: dict[str, Callable[[], str]] | None = None) -> None:
        self.uuid, self.name = f"00000000-0000-4000-8000-{number:012d}", f"g{number}"
        self._disk, self._pools = disk, pools or {}

    def active(self) -> bool:
        return True

    def live_xml(self) -> str:
        return f"<domain><devices><disk device='disk' {self._disk}<target dev='vda'/></disk></devices></domain>"

    def volume_path(self, pool: str, volume: str) -> str:
        assert volume == "v"
        return self._pools[pool]()


def in_file(number: int, path: str) -> Guest:
    return Guest(number, f"type='file'><driver type='raw'/><source file='{path}'/>")


def in_pool(number: int, pool: str, find: Callable[[], str]) -> Guest:
    return Guest(number, f"type='volume'><driver type='raw'/><source pool='{pool}' volume='v'/>", {pool: find})


class Host:
    def __init__(self, guests: list[Guest], run_dir: Path | None = None) -> None:
        self.guests, self.run_dir = guests, run_dir

    def domains(self) -> list[Guest]:
        return self.guests

    def domain(self, uuid: str) -> Guest:
        return next(one for one in self.guests if one.uuid == uuid)


def keys(*guests: Guest) -> dict[str, frozenset[str]]:
    return {use.guest: use.shows for use in uses.disk_uses(cast("Hypervisor", Host(list(guests))))}


@pytest.fixture
def ever(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event that comes when the test is over; storage below /away waits for it."""
    event, real = threading.Event(), places_of

    def places(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> Places:
        if path.startswith("/away"):
            event.wait()
        return real(path, is_qcow2=is_qcow2, sys=sys)

    monkeypatch.setattr(uses, "places_of", places)
    monkeypatch.setattr(asking, "_CALLS", GuestCalls())
    monkeypatch.setattr(ask_all, "__defaults__", (GuestCalls(),))
    yield event
    event.set()


@pytest.mark.case("G4")
def test_directories_that_hang_are_waited_for_together_and_cost_no_other_guest_its_storage(
    ever: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "PATIENCE_S", 0.5)
    (tmp_path / "image").write_bytes(b"")
    seen = (tmp_path / "image").stat()
    away = [in_file(n, f"/away/{n}/disk") for n in range(1, 41)]
    began = time.monotonic()
    found = keys(*away, in_file(99, str(tmp_path / "image")))
    assert time.monotonic() - began < 40 * 0.5 / 2
    assert f"file {seen.st_dev}:{seen.st_ino}" in found["g99"]
    assert {name: shown for name, shown in found.items() if name != "g99"} == {
        f"g{n}": frozenset({f"path /away/{n}/disk"}) for n in range(1, 41)
    }


def test_a_directory_that_hangs_is_not_asked_again_until_it_answers(
    ever: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "PATIENCE_S", 0.05)
    guest = in_file(1, "/away/1/disk")
    keys(guest)
    monkeypatch.setattr(uses, "PATIENCE_S", LONG_S)
    before = threading.active_count()
    assert keys(guest) == {"g1": frozenset({"path /away/1/disk"})}  # at once
    assert threading.active_count() == before


def test_disks_in_one_directory_cost_one_thread_and_those_that_answered_are_known(
    ever: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        if number == 3:
            ever.wait()
        return number

    calls = GuestCalls()
    questions = [Question("one", lambda n=n: ask(n), -1) for n in range(1, 6)]  # type: ignore[misc]
    assert ask_all(questions, 0.2, calls) == [1, 2, -1, -1, -1]
    assert asked == [1, 2, 3]
    assert calls.threads == 1


def test_a_pool_that_hangs_costs_its_own_guests_only(ever: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "PATIENCE_S", 0.5)

    def hangs() -> str:
        ever.wait()
        return "/never"

    def gone() -> str:
        raise HypervisorError("no storage pool")

    found = keys(in_pool(1, "a", hangs), in_pool(2, "b", gone), in_pool(3, "c", lambda: "/away/there"))
    assert [key.startswith("named volume") for name in ("g1", "g2") for key in found[name]] == [True, True]
    assert found["g1"] != found["g2"]
    assert found["g3"] == frozenset({"path /away/there"})  # its path is known although its directory hangs


def test_what_is_known_is_not_asked_for() -> None:
    assert ask_all([Question(None, lambda: pytest.fail("asked"), 7)], 0.0, GuestCalls()) == [7]


def test_without_a_thread_what_counts_otherwise_counts(ever: threading.Event) -> None:
    calls = GuestCalls(1)
    calls.start("hangs", ever.wait)
    assert ask_all([Question("a", lambda: 1, 0)], LONG_S, calls) == [0]


def test_an_error_of_the_storage_is_no_answer_and_a_defect_is_not_hidden() -> None:
    def fails(error: Exception) -> Callable[[], int]:
        def ask() -> int:
            raise error

        return ask

    refused = [
        Question("a", fails(OSError()), 1),
        Question("a", lambda: 2, 0),
        Question("b", fails(FreezeframeError("")), 3),
    ]
    assert ask_all(refused, LONG_S, GuestCalls()) == [1, 2, 3]
    with pytest.raises(KeyError):
        ask_all([Question("a", fails(KeyError("a defect")), 0)], LONG_S, GuestCalls())


def test_all_storage_has_answered_before_those_who_ask_give_up() -> None:
    assert uses.PATIENCE_S < sole_writer.ONE_S < sole_writer.ALL_S
