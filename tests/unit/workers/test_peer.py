"""Whom a transfer reads from: two real QEMUs whose guests' UUIDs begin alike, and one of them at the other's socket."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.words import CaptureKind
from freezeframe.repository import Repository
from ops.qemu_export import TARGET, FakeGuest, exporting
from workers.connection import DataConnection
from workers.export import Export
from workers.host import Host
from workers.peer import Peer, WrongPeerError
from workers.steps.export_of import NoBackupError
from workers.steps.transfer import transfer

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
#: Alike but for the last digit, as hand-numbered guests are; equal in the first 8 digits, as UUIDv7 of one minute are.
ALPHA, BETA = (f"0198c0de-0000-7000-8000-00000000000{digit}" for digit in (1, 2))
CHUNK = 64 << 10

Connect = Callable[[Path, str, Peer], AbstractContextManager[object]]


def export(path: Path, target: str, peer: Peer) -> Export:
    return Export(path, target, peer, with_bitmap=False)


@pytest.fixture(params=[export, DataConnection], ids=["extents", "data"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Either kind of connection that a transfer makes."""
    kind: Connect = request.param
    return kind


@pytest.fixture
def guests(host: Host) -> Iterator[dict[str, FakeGuest]]:
    """Two guests of one host with disks of one size, both being captured by one capture."""
    run_dir = host.settings.libvirt_run_dir
    made = {name: FakeGuest(name, uuid, run_dir) for name, uuid in (("alpha", ALPHA), ("beta", BETA))}
    with ExitStack() as stack:
        for name, guest in made.items():
            disk = run_dir / f"{name}.raw"
            disk.write_bytes(name.encode().ljust(CHUNK))
            stack.enter_context(exporting(guest, guest.begun(host.journal, CAPTURE), disk))
        yield made


def order(guest: FakeGuest) -> TransferOrder:
    return TransferOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        guest_uuid=guest.uuid,
        guest_name=guest.name,
        target=TARGET,
        size_bytes=CHUNK,
        chunk_bytes=CHUNK,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )


@pytest.fixture
def repository(host: Host) -> Repository:
    made = Repository.init(host.repository)
    made.sessions.begin(CAPTURE, "test")
    host.settings.scratch_dir.mkdir()
    return made


@pytest.mark.case("I1")
def test_each_of_two_guests_whose_uuids_begin_alike_gives_its_own_bytes(
    host: Host, guests: dict[str, FakeGuest], repository: Repository
) -> None:
    for name, guest in guests.items():
        stored = transfer(host, order(guest))
        with repository.disk_reader(stored.index or "") as reader:
            assert b"".join(extent.data or b"" for extent in reader).strip() == name.encode()


@pytest.mark.case("I1")
def test_a_guest_whose_socket_another_guests_qemu_serves_is_not_stored(
    host: Host, guests: dict[str, FakeGuest], repository: Repository
) -> None:
    """QEMU unlinks what is at a path before it binds, so this takes no more than equal paths."""
    alpha, beta = (guest.directory / f"{CAPTURE}.sock" for guest in guests.values())
    beta.rename(alpha)
    found = host.qemu("beta", BETA).pid
    with pytest.raises(WrongPeerError, match=rf"process {found} .* is not the QEMU of guest alpha, process \d+"):
        transfer(host, order(guests["alpha"]))


def test_the_process_that_is_meant_is_connected_to(host: Host, guests: dict[str, FakeGuest], connect: Connect) -> None:
    with connect(guests["alpha"].directory / f"{CAPTURE}.sock", TARGET, host.qemu("alpha", ALPHA).peer):
        pass


@pytest.mark.case("I1")
def test_no_kind_of_connection_is_made_to_another_process(
    host: Host, guests: dict[str, FakeGuest], connect: Connect
) -> None:
    peer = host.qemu("beta", BETA).peer
    with pytest.raises(WrongPeerError, match=re.escape(f"is not the QEMU of guest beta, process {peer.pid}")):
        connect(guests["alpha"].directory / f"{CAPTURE}.sock", TARGET, peer)


def test_nothing_is_read_before_the_peer_is_known(host: Host, connect: Connect, tmp_path: Path) -> None:
    """Not even a greeting is waited for: a listener that never answers is refused at once."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        with pytest.raises(WrongPeerError):
            connect(tmp_path / "s", TARGET, Peer("another", 1))


def test_the_listener_counts_and_not_who_holds_the_socket_now(tmp_path: Path) -> None:
    """A descriptor that was handed on: the kernel tells who called listen(2)."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        command = [sys.executable, "-c", f"import socket; socket.socket(fileno={listening.fileno()}).listen()"]
        with subprocess.Popen(command, pass_fds=[listening.fileno()]) as listener:
            listener.wait()
        Peer("it", listener.pid).connect(tmp_path / "s").close()


def test_a_guest_without_a_backup_in_the_journal_is_told_as_such(host: Host, repository: Repository) -> None:
    """Not looked for where it might be: the journal is the only one that knows."""
    with pytest.raises(NoBackupError, match="no backup of guest alpha in capture"):
        transfer(host, order(FakeGuest("alpha", ALPHA, host.settings.libvirt_run_dir)))
