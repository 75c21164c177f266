"""Verbs for all guests of a host: one that is gone since it was listed, or that fails, keeps nothing from the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest
import typer
from typer.testing import CliRunner

from freezeframe.cli.verbs import Verb
from tests.unit.workers.test_detach import OURS, THEIRS, stored
from workers import detach
from workers.commands import detach as detach_verb
from workers.commands import thaw
from workers.host import Host
from workers.host_calls import LibvirtHangsError
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.hypervisor.fake_checkpoints import CheckpointedGuest
from workers.hypervisor.fake_guest import libvirt_error
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake
from workers.journal import ClaimChange

LONG_S = 60.0
Run = Callable[..., tuple[int, str]]


class Odd(HeldFake):
    """A guest whose handle fails as it is told to when it is asked whether it runs."""

    error: Exception

    def isActive(self) -> bool:  # noqa: N802  libvirt's name
        raise self.error


def odd(number: int, error: Exception) -> Odd:
    one = held_fake(number)
    made = Odd(one.live_xml, uuid=one.uuid, label=one.label, filesystems=one.filesystems)
    made.error = error
    return made


def runner(verb: Callable[..., None], name: str) -> Run:
    app = typer.Typer()
    app.command(name, cls=Verb)(verb)
    app.callback()(lambda: None)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [name, *arguments], env={"COLUMNS": "200"})
        return result.exit_code, result.stdout if "--json" in arguments else result.output

    return run


def off(number: int) -> HeldFake:
    one = held_fake(number)
    one.state_code = libvirt.VIR_DOMAIN_SHUTOFF
    return one


@pytest.mark.case("G4")
def test_thawing_all_lets_go_of_each_guest_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = odd(1, libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "Domain not found"))
    failing = odd(2, libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "cannot acquire state change lock"))
    defective = held_fake(3)
    others = [held_fake(4), held_fake(5)]
    for fake in (failing, defective, *others):
        fake.suspend()
    fakes = {fake.uuid: fake for fake in (gone, failing, defective, *others)}
    monkeypatch.setattr(defective, "resume", lambda: 1 // 0)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [fake.domain() for fake in fakes.values()])
    monkeypatch.setattr(Hypervisor, "domain", lambda _, uuid: fakes[uuid].domain())
    code, told = runner(thaw.thaw, "thaw")("--all", "--json")
    found = {one["guest"]: one["problem"] for one in json.loads(told)["guests"]}
    assert code == 10
    assert list(found) == ["guest-2", "guest-3", "guest-4", "guest-5"]
    assert [found["guest-2"], found["guest-4"], found["guest-5"]] == [None, None, None]
    assert "ZeroDivisionError" in found["guest-3"]
    assert [fake.paused for fake in (failing, defective, *others)] == [False, True, False, False]


def test_a_guest_that_is_named_and_gone_is_told_of_and_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [held_fake(1).domain()])
    code, told = runner(thaw.thaw, "thaw")("guest-1", "guest-2")
    assert code == 4
    assert "There is no guest guest-2 on this host." in told


def test_a_libvirt_that_does_not_list_its_guests_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The red button must say which daemon to start again, not wait beside it."""
    may_end = threading.Event()

    def hangs(_: Hypervisor) -> list[Domain]:
        may_end.wait()
        return []

    monkeypatch.setattr(thaw, "PATIENCE_S", 0.05)
    monkeypatch.setattr(Hypervisor, "domains", hangs)
    with pytest.raises(LibvirtHangsError, match="has not listed the guests"):
        thaw._listed(Hypervisor("test:///default"), None)
    may_end.set()


class Machine:
    """A host with three guests that have traces of captures, as `detach` sees it."""

    def __init__(self, directory: Path) -> None:
        self.guests = {name: _traced(directory, number, name) for number, name in enumerate(("one", "two", "three"))}
        self.gone: set[str] = set()

    def domains(self) -> list[CheckpointedGuest]:
        return list(self.guests.values())

    def domain(self, uuid: str) -> CheckpointedGuest:
        (found,) = (guest for guest in self.guests.values() if guest.uuid == uuid)
        if found.name in self.gone:
            raise GuestGoneError(f"Looking for guest {found.name} failed: Domain not found.")
        return found

    def left(self) -> dict[str, list[str]]:
        return {name: guest.checkpoints for name, guest in self.guests.items()}


def _traced(directory: Path, number: int, name: str) -> CheckpointedGuest:
    image = stored(directory / f"{name}.qcow2", OURS, THEIRS)
    guest = CheckpointedGuest(image, checkpoints=[OURS, THEIRS], memory=[OURS, THEIRS])
    guest.name, guest.uuid = name, f"00000000-0000-4000-8000-{number:012d}"
    return guest


@pytest.fixture
def machine(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(detach_verb, "this_host", lambda: host)
    monkeypatch.setattr(Hypervisor, "domains", lambda _: made.domains())
    monkeypatch.setattr(Hypervisor, "domain", lambda _, uuid: made.domain(uuid))
    return made


@pytest.fixture
def detaching(machine: Machine) -> Run:
    return runner(detach_verb.detach, "detach")


def failing(machine: Machine, step: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `detach.look` or `detach.remove` fail for guest one."""
    real = getattr(detach, step)

    def fails(host: Host, domain: Domain, *traces: detach.Traces) -> object:
        if domain.name == "one":
            raise error
        return real(host, domain, *traces)

    monkeypatch.setattr(detach, step, fails)


@pytest.mark.case("G7")
def test_detaching_all_passes_over_a_guest_that_is_gone_since_it_was_listed(machine: Machine, detaching: Run) -> None:
    machine.gone = {"one"}
    assert detaching("--all", "--yes")[0] == 0
    assert machine.left() == {"one": [OURS, THEIRS], "two": [THEIRS], "three": [THEIRS]}
    assert detaching("one", "--yes")[0] == 4


@pytest.mark.case("G7")
def test_detaching_all_passes_over_a_guest_that_goes_while_it_is_looked_at(
    machine: Machine, detaching: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(machine, "look", GuestGoneError("Domain not found."), monkeypatch)
    assert detaching("--all", "--yes")[0] == 0
    assert machine.left() == {"one": [OURS, THEIRS], "two": [THEIRS], "three": [THEIRS]}
    assert detaching("one", "--yes")[0] == 4


@pytest.mark.case("G7")
@pytest.mark.parametrize("step", ["look", "remove"])
@pytest.mark.parametrize("error", [HypervisorError("It hangs."), OSError(5, "Input/output error")])
def test_detaching_all_names_what_fails_of_one_guest_and_goes_on(
    machine: Machine, detaching: Run, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    failing(machine, step, error, monkeypatch)
    code, told = detaching("--all", "--yes")
    assert code == 10
    assert str(error) in told
    assert machine.left() == {"one": [OURS, THEIRS], "two": [THEIRS], "three": [THEIRS]}


@pytest.mark.case("G7")
def test_detaching_all_never_says_that_nothing_is_there_where_it_could_not_look(
    machine: Machine, detaching: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.gone = {"two", "three"}
    failing(machine, "look", HypervisorError("It hangs."), monkeypatch)
    code, told = detaching("--all", "--yes")
    assert code == 10
    assert "It hangs." in told
    assert "Nothing of ours" not in told


@pytest.mark.case("G7")
def test_detaching_all_does_nothing_while_a_capture_has_one_of_them(
    machine: Machine, detaching: Run, host: Host
) -> None:
    capture = "01KAAAAAAAAAAAAAAAAAAAAAAA"
    uuid = machine.guests["two"].uuid
    host.claims.take(uuid, capture)
    host.journal.of(capture).record(ClaimChange(guest_uuid=uuid))
    assert detaching("--all", "--yes")[0] == 3
    assert machine.left() == {name: [OURS, THEIRS] for name in machine.guests}
