"""What libvirt's notes of running guests tell, and what is not believed of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.qemu_export import FakeGuest, running
from workers.qemu_process import QemuProcess, QemuUnknownError, SocketPathTooLongError, find

UUID, OTHER = "0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002"
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[FakeGuest]:
    made = FakeGuest("alpha", UUID, tmp_path)
    with running(made):
        yield made


def test_a_guests_qemu_is_found_with_its_user_and_its_own_directory(guest: FakeGuest, tmp_path: Path) -> None:
    found = find(tmp_path, "alpha", UUID)
    assert found.directory == guest.directory
    assert (found.uid, found.gid) == (os.geteuid(), os.getegid())
    assert set(found.groups) == set(os.getgroups())
    assert b"-uuid" in Path(f"/proc/{found.pid}/cmdline").read_bytes()


@pytest.mark.parametrize("name", ["with space", "a:b,c", "db@prod", "quo'te\"s", "größe", "サーバー"])
def test_every_name_that_libvirt_accepts_is_found(tmp_path: Path, name: str) -> None:
    with running(FakeGuest(name, UUID, tmp_path)):
        assert find(tmp_path, name, UUID).guest == name


@pytest.mark.case("I1")
def test_a_note_of_another_guest_is_not_believed(guest: FakeGuest, tmp_path: Path) -> None:
    with pytest.raises(QemuUnknownError, match=OTHER):
        find(tmp_path, "alpha", OTHER)


@pytest.mark.case("I1")
def test_a_process_that_is_not_the_guests_qemu_is_not_believed(guest: FakeGuest, tmp_path: Path) -> None:
    """The note outlived its process, and the number has gone to another."""
    guest.note(os.getpid())
    with pytest.raises(QemuUnknownError, match=f"Process {os.getpid()}, .* was not started as QEMU of {UUID}"):
        find(tmp_path, "alpha", UUID)


@pytest.mark.case("I1")
def test_the_qemu_of_a_guest_with_a_similar_uuid_is_not_believed(guest: FakeGuest, tmp_path: Path) -> None:
    pid = find(tmp_path, "alpha", UUID).pid
    FakeGuest("beta", OTHER, tmp_path).note(pid)
    with pytest.raises(QemuUnknownError, match=f"Process {pid}, "):
        find(tmp_path, "beta", OTHER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<domstatus pid='1'>",
        f"<domstatus><libDir path='/x'/><domain><uuid>{UUID}</uuid></domain></domstatus>",
        f"<domstatus pid='1'><domain><uuid>{UUID}</uuid></domain></domstatus>",
        f"<domstatus pid='1'><libDir path='x'/><domain><uuid>{UUID}</uuid></domain></domstatus>",
        f"<domstatus pid='-1'><libDir path='/x'/><domain><uuid>{UUID}</uuid></domain></domstatus>",
        "<domstatus pid='1'><libDir path='/x'/></domstatus>",
    ],
    ids=["empty", "cut", "no pid", "no directory", "relative", "negative", "no uuid"],
)
def test_a_note_that_does_not_tell_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "alpha.xml").write_text(text)
    with pytest.raises(QemuUnknownError, match=r"alpha\.xml"):
        find(tmp_path, "alpha", UUID)


def test_a_note_that_is_not_there_is_named_and_so_is_the_setting(tmp_path: Path) -> None:
    with pytest.raises(QemuUnknownError, match=r"alpha\.xml") as told:
        find(tmp_path, "alpha", UUID)
    assert "FREEZEFRAME_LIBVIRT_RUN_DIR" in told.value.hint


def test_a_process_that_is_gone_is_named(guest: FakeGuest, tmp_path: Path) -> None:
    with pytest.raises(QemuUnknownError, match="not to be seen"):
        find(tmp_path, "alpha", UUID, proc=tmp_path / "none")


@pytest.fixture
def process() -> QemuProcess:
    return QemuProcess("alpha", UUID, 1, 64055, 108, (), Path("/var/lib/libvirt/qemu/domain-1-alpha"))


@pytest.mark.case("I1")
def test_a_socket_is_named_by_the_whole_id(process: QemuProcess) -> None:
    """Captures that differ in one place, wherever it is, have different sockets."""
    others = [CAPTURE[:at] + "Z" + CAPTURE[at + 1 :] for at in range(len(CAPTURE))]
    paths = {process.export_socket(capture) for capture in [CAPTURE, *others]}
    assert len(paths) == len(CAPTURE) + 1
    beside = replace(process, directory=Path("/var/lib/libvirt/qemu/domain-2-alpha"))
    assert process.export_socket(CAPTURE) != beside.export_socket(CAPTURE)


#: Names of which libvirt takes all or 20 characters for a directory in which its own monitor.sock has just room, or nearly.
LONG_NAMES = (
    "数据库服务器生产环境主节点一号机",
    "база-данных-продакшн-01",
    "🦊" * 12,
    "数" * 20,
    "é" * 20,
    "🦊" * 15 + "ab",
)


def domain_directory(name: str, number: int = 12) -> Path:
    """As libvirt names it. [domain_conf.c, virDomainDefGetShortName]"""
    return Path(f"/var/lib/libvirt/qemu/domain-{number}-{name[:20]}")


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", LONG_NAMES)
def test_a_guest_that_libvirt_can_start_has_room_for_an_export_of_each_capture(name: str) -> None:
    directory = domain_directory(name)
    assert len(bytes(directory / "monitor.sock")) <= 107, "libvirt would not start it"
    process = QemuProcess(name, UUID, 1, 64055, 108, (), directory)
    captures = [CAPTURE, *(CAPTURE[:at] + "Z" + CAPTURE[at + 1 :] for at in range(len(CAPTURE)))]
    paths = [process.export_socket(capture) for capture in captures]
    assert len(set(paths)) == len(captures)  # of the whole id, also where it is hashed
    assert paths == [process.export_socket(capture) for capture in captures]
    for path in paths:
        assert path.parent == directory
        assert len(path.name) >= 12
        assert path.name != "monitor.sock"
        with socket.socket(socket.AF_UNIX) as one, pytest.raises(FileNotFoundError):
            one.connect(str(path))  # and not that it is too long


@pytest.mark.case("I5")
def test_a_socket_s_name_has_whatever_room_there_is(process: QemuProcess) -> None:
    """By the id as long as that fits, then by as much of its hash as fits, and by no less than 60 bits of it."""
    names = {}
    for room in range(12, 40):
        directory = Path("/" + "d" * (107 - room - len("//")))
        path = replace(process, directory=directory).export_socket(CAPTURE)
        assert len(bytes(path)) <= 107
        names[room] = path.name
    assert {names[room] for room in range(31, 40)} == {f"{CAPTURE}.sock"}
    assert [len(names[room]) for room in range(12, 31)] == [*range(12, 26), *[26] * 5]
    assert all(names[26].startswith(names[room]) for room in range(12, 31))


def test_a_directory_that_leaves_no_room_for_a_socket_is_told(process: QemuProcess) -> None:
    longest = replace(process, directory=Path("/" + "d" * (107 - 12 - len("//"))))
    assert len(bytes(longest.export_socket(CAPTURE))) == 107
    longer = replace(process, directory=longest.directory.with_name(longest.directory.name + "d"))
    with pytest.raises(SocketPathTooLongError, match="leaves 11 bytes of 107 for its name; 12 are needed") as told:
        longer.export_socket(CAPTURE)
    assert "virsh domrename" in told.value.hint


def test_the_longest_directory_that_libvirt_makes_for_a_plain_name_fits(process: QemuProcess) -> None:
    """Ids count up from the daemon's start, and of a name 20 characters are taken. [domain_conf.c, virDomainDefGetShortName]"""
    longest = replace(process, directory=Path(f"/var/lib/libvirt/qemu/domain-99999999-{'x' * 20}"))
    assert len(bytes(longest.export_socket(CAPTURE))) <= 107
