"""A lease has the paths of QEMU's sockets, with the guest's name in them: whatever libvirt allows there is read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn, cast

import pytest

from freezeframe.contract.words import HoldKind
from tests.odd_names import ODD_NAMES
from tests.unit.workers.guard_site import GuardInThread
from workers.boot import boot_id, now_s
from workers.bounded import GuestCalls
from workers.guard.fake_agent import FakeAgent
from workers.guard.lease import LeasedGuest, LeaseFiles, StoredLease
from workers.guard.letting_go import look
from workers.guard.reading import FoundGuest, FoundLease, read_lease
from workers.guard.table import Look
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import HypervisorUnreachableError

A = "00000000-0000-4000-8000-00000000000a"
B = "00000000-0000-4000-8000-00000000000b"
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHERS = (*ODD_NAMES, '"hold":"none"', '\\"hold":"none"', "tab\there", "a\u2028b", f"{B}")


class Dead:
    """libvirtd has died."""

    def domain(self, _: str) -> NoReturn:
        raise HypervisorUnreachableError("libvirtd is dead")


def leased(directory: Path, guest_uuid: str = A) -> LeasedGuest:
    return LeasedGuest(
        guest_uuid=guest_uuid,
        hold=HoldKind.FREEZE,
        agent_socket=directory / "a.0",
        monitor_socket=directory / "monitor.sock",
    )


def stored(*guests: LeasedGuest) -> StoredLease:
    return StoredLease(guests=guests, capture_id=CAPTURE, deadline_s=now_s() + 5, boot_id=boot_id())


def read(tmp_path: Path, text: str) -> FoundLease:
    path = tmp_path / f"{CAPTURE}.json"
    path.write_text(text, encoding="utf-8")
    return read_lease(path, tmp_path / "captures" / CAPTURE)


@pytest.mark.case("I5", "G9", "S4")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_restarted_guard_thaws_a_guest_of_any_name_while_libvirtd_is_dead(tmp_path: Path, name: str) -> None:
    directory = tmp_path / f"domain-5-{name}"  # as libvirt names it [virDomainDefGetShortName]
    directory.mkdir()
    guest = leased(directory)
    assert guest.agent_socket is not None
    files = LeaseFiles(tmp_path / "state")
    files.add(stored(guest))
    ((found,),) = [lease.guests for lease in files.all()]
    agent = FakeAgent(guest.agent_socket)
    try:
        assert look(cast("Hypervisor", Dead()), GuestCalls(), found) is Look.RUNS
        assert (agent.status, found.monitor_socket) == ("thawed", guest.monitor_socket)
    finally:
        agent.end()


@pytest.mark.case("I5", "S4")
@pytest.mark.parametrize("escaped", [False, True], ids=["as written", "escaped"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_lease_that_is_cut_off_names_the_sockets_of_guests_of_any_name(
    tmp_path: Path, name: str, *, escaped: bool
) -> None:
    """Behind the second guest too: a name says neither a hold nor another guest."""
    document = json.loads(
        stored(*(leased(Path(f"/qemu/domain-5-{name}"), uuid) for uuid in (A, A[:-1] + "c"))).model_dump_json()
    )
    text = json.dumps(document, ensure_ascii=escaped)
    found = read(tmp_path, text[: text.rindex("]")])
    directory = Path(f"/qemu/domain-5-{name}")
    assert found.guests == tuple(
        FoundGuest(uuid, HoldKind.FREEZE, directory / "a.0", directory / "monitor.sock") for uuid in (A, A[:-1] + "c")
    )
    assert found.damage == "it is not whole"


@pytest.mark.case("I5", "S4")
@pytest.mark.parametrize("name", OTHERS)
def test_a_lease_of_another_version_names_the_sockets_of_guests_of_any_name(tmp_path: Path, name: str) -> None:
    directory = Path(f"/qemu/domain-5-{name}")
    entry = json.loads(leased(directory).model_dump_json())
    deeper = {"guest": {"uuid": entry.pop("guest_uuid")}, "hold": entry.pop("hold"), "qemu": [{"sockets": entry}]}
    found = read(tmp_path, json.dumps({"v": 2, "guests": [deeper, {B: {"hold": "pause"}}]}))
    assert found.guests == (
        FoundGuest(A, HoldKind.FREEZE, directory / "a.0", directory / "monitor.sock"),
        FoundGuest(B, HoldKind.PAUSE),
    )


@pytest.mark.case("I5", "S4")
def test_a_uuid_in_a_socket_s_path_is_no_guest(tmp_path: Path) -> None:
    """Some platforms name the agent's channel by a UUID; let go would be a guest that nobody has leased."""
    whole = stored(leased(Path(f"/qemu/channels/{B}"))).model_dump_json()
    found = read(tmp_path, whole)
    assert ([guest.guest_uuid for guest in found.guests], found.damage) == ([A], None)
    for end in range(whole.index(A) + len(A), len(whole)):
        assert [guest.guest_uuid for guest in read(tmp_path, whole[:end]).guests] == [A]


@pytest.mark.case("S5")
@pytest.mark.parametrize("path", ['"\\ud800"', '"/qemu/\\ud800"', '"/qemu/\\u0000"', '"qemu"', "7", "[]", "true"])
def test_a_socket_that_cannot_be_read_is_damage_and_the_file_stays(guard: GuardInThread, path: str) -> None:
    """No system call takes such a path, and no lease could be stored with it."""
    text = stored(leased(Path("/qemu/a")), leased(Path("/qemu/b"), B)).model_dump_json()
    file = guard.leases / f"{CAPTURE}.json"
    file.write_text(text.replace('"/qemu/a/a.0"', path), encoding="utf-8")
    (found,) = guard.files.all()
    assert found.guests[0] == FoundGuest(A, HoldKind.FREEZE, None, Path("/qemu/a/monitor.sock"))
    assert found.damage == "another version has written it"
    before = file.read_text(encoding="utf-8")
    guard.another().ledger.find()
    assert file.read_text(encoding="utf-8") == before
