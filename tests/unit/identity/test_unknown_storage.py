"""Storage of a guest that does not tell what it is: no disk is unshared for its name, and no label lost for it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.unit.identity.test_hung_storage import Guest, Host, in_file, in_pool
from workers.bounded import GuestCalls
from workers.fitness import shared_reason, unseen_reason
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.errors import HypervisorError
from workers.identity import open_storage, uses
from workers.identity.asking import ask_all
from workers.identity.open_storage import of_process
from workers.identity.places import Places, place_of_open, places_of
from workers.identity.statx import cached
from workers.identity.storage import SYS

pytestmark = pytest.mark.case("P2")

#: Opens each file as its mode says, and keeps it until the input ends.
_OPENS = "import sys; held = [open(one[2:], one[:2]) for one in sys.argv[3:]]; print(flush=True); sys.stdin.read()"


@contextmanager
def qemu(directory: Path, guest: Guest, *files: str) -> Iterator[Path]:
    """A process that has files open, as the QEMU of a guest by libvirt's note; yields libvirt's directory of running guests."""
    command = [sys.executable, "-c", _OPENS, "-uuid", guest.uuid, *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        note = (
            f"<domstatus pid='{process.pid}'><libDir path='/x'/><domain><uuid>{guest.uuid}</uuid></domain></domstatus>"
        )
        (directory / f"{guest.name}.xml").write_text(note, encoding="utf-8")
        yield directory
        process.stdin.close()


def look(captured: Guest, other: Guest, run_dir: Path | None) -> tuple[str | None, str | None]:
    """Return who else writes to the captured guest's disk, and why that is not known."""
    found = uses.disk_uses(cast("Hypervisor", Host([captured, other], run_dir)))
    return shared_reason(captured.uuid, "vda", found), unseen_reason(captured.uuid, "vda", found)


@pytest.fixture
def lun(tmp_path: Path) -> Path:
    """Storage with a second name, as that of a path to a LUN."""
    (tmp_path / "lun").write_bytes(b"")
    (tmp_path / "by-path").symlink_to(tmp_path / "lun")
    return tmp_path / "lun"


SHARED = "disk vda of the running guest g2 writes to the same storage"


@pytest.mark.parametrize("gone", ["no", "link", "pool"])
def test_a_writer_whose_storage_does_not_tell_is_not_taken_for_none(gone: str, lun: Path) -> None:
    def no_pool() -> str:
        raise HypervisorError("no storage pool")

    by_path = lun.with_name("by-path")
    other = in_pool(2, "p", no_pool) if gone == "pool" else in_file(2, str(by_path))
    if gone == "link":
        by_path.unlink()
    reason, unseen = look(in_file(1, str(lun)), other, None)
    assert reason == (SHARED if gone == "no" else None)
    whys = {
        "link": f"disk vda of guest g2: {by_path} does not tell which storage it is",
        "pool": "disk vda of guest g2: storage pool p does not tell where volume v is",
    }
    assert unseen == whys.get(gone)


def test_one_that_only_reads_is_in_nobody_s_way(lun: Path) -> None:
    reader = Guest(2, "type='file'><driver type='raw'/><source file='/gone/x'/><readonly/>")
    assert look(in_file(1, str(lun)), reader, None) == (None, None)
    assert look(reader, in_file(1, str(lun)), None) == (
        None,
        "disk vda of guest g2: /gone/x does not tell which storage it is",
    )


def test_its_qemu_s_descriptors_tell_which_storage_it_writes_to(lun: Path, tmp_path: Path) -> None:
    captured, other = in_file(1, str(lun)), in_file(2, str(lun.with_name("by-path")))
    with qemu(tmp_path, other, f"r+{lun.with_name('by-path')}") as run_dir:
        lun.with_name("by-path").unlink()
        assert look(captured, other, run_dir) == (SHARED, None)


def test_nor_do_they_cost_another_guest_its_label(lun: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    captured, other = in_file(1, str(lun)), in_file(2, str(tmp_path / "elsewhere"))
    with qemu(tmp_path, other, f"r+{tmp_path / 'elsewhere'}") as run_dir:
        (tmp_path / "elsewhere").unlink()
        assert look(captured, other, run_dir) == (None, None)
        assert look(other, captured, run_dir)[1] is not None  # what it shows itself is not known


@pytest.mark.parametrize("files", [(), ("rb{lun}",), ("r+{own}",)])
def test_descriptors_among_which_the_disk_is_not_prove_nothing(
    files: tuple[str, ...], lun: Path, tmp_path: Path
) -> None:
    """It has none, only reads, or has only what is another disk of the guest."""
    (tmp_path / "own").write_bytes(b"")
    disks = f"type='file'><driver type='raw'/><source file='{tmp_path / 'own'}'/><target dev='vdb'/></disk><disk device='disk' "
    other = Guest(2, f"{disks} type='file'><driver type='raw'/><source file='/gone/x'/>")
    opened = [one.format(lun=lun, own=tmp_path / "own") for one in files]
    with qemu(tmp_path, other, *opened) as run_dir:
        assert look(in_file(1, str(lun)), other, run_dir) == (
            None,
            "disk vda of guest g2: /gone/x does not tell which storage it is",
        )


def test_of_storage_that_hangs_they_tell_too(lun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NFS server that is away: neither the label of a guest with other storage, nor a writer to this one is lost."""
    event = threading.Event()

    def places(path: str, *, is_qcow2: bool = False, sys: Path = SYS) -> Places:
        if path.startswith("/away/"):
            event.wait()
        return places_of(path, is_qcow2=is_qcow2, sys=sys)

    monkeypatch.setattr(uses, "places_of", places)
    monkeypatch.setattr(uses, "PATIENCE_S", 0.5)
    monkeypatch.setattr(ask_all, "__defaults__", (GuestCalls(),))
    other = in_file(2, "/away/lun")
    (tmp_path / "third").write_bytes(b"")
    with qemu(tmp_path, other, f"r+{lun}") as run_dir:
        assert look(in_file(1, str(tmp_path / "third")), other, run_dir) == (None, None)
        assert look(in_file(1, str(lun)), other, run_dir) == (SHARED, None)
    event.set()


def test_descriptors_that_hang_are_not_waited_for(lun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()

    def hangs(*_: object) -> list[open_storage.OpenStorage]:
        event.wait()
        return []

    monkeypatch.setattr(uses, "of_guest", hangs)
    monkeypatch.setattr(uses, "DESCRIPTORS_S", 0.05)
    monkeypatch.setattr(ask_all, "__defaults__", (GuestCalls(),))
    assert look(in_file(1, str(lun)), in_file(2, "/gone/x"), tmp_path)[1] is not None
    event.set()


def test_two_disks_of_a_guest_that_do_not_tell_are_not_called_one(lun: Path, tmp_path: Path) -> None:
    """Its descriptors do not say which is which: its label claims less, and it is not refused."""
    disks = "type='file'><driver type='raw'/><source file='/gone/y'/><target dev='vdb'/></disk><disk device='disk' "
    other = Guest(2, f"{disks} type='file'><driver type='raw'/><source file='/gone/x'/>")
    (tmp_path / "x").write_bytes(b"")
    with qemu(tmp_path, other, f"r+{lun}", f"r+{tmp_path / 'x'}") as run_dir:
        assert look(other, in_file(1, str(tmp_path)), run_dir)[0] is None
        assert look(in_file(1, str(lun)), other, run_dir) == (
            "disk vdb of the running guest g2 writes to the same storage",
            None,
        )


@pytest.fixture
def vhost_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    """A guest with a disk of its own, and a LUN that the kernel exports to it: `by-path`, by the administrator's name."""
    link = tmp_path / "config/vhost/naa.5001/tpgt_1/lun/lun_0/made"
    storage = tmp_path / "config/core/iblock_0/db"
    for one in (storage, link.parent):
        one.mkdir(parents=True)
    (storage / "udev_path").write_text(f"{tmp_path / 'by-path'}\n")
    link.symlink_to(storage)
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/config").mkdir()
    (tmp_path / "sys/kernel/config/target").symlink_to(tmp_path / "config")
    monkeypatch.setattr(uses, "SYS", tmp_path / "sys")
    (tmp_path / "own").write_bytes(b"")
    vhost = "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5001'/></hostdev><disk device='disk'"
    own = f"type='file'><driver type='raw'/><source file='{tmp_path / 'own'}'/><target dev='vda'/></disk>{vhost}"
    return Guest(2, f"{own} type='file'><driver type='raw'/><source file='{tmp_path / 'own'}'/><readonly/>")


@pytest.mark.parametrize("gone", [False, True])
def test_what_qemu_has_open_is_not_what_the_kernel_exports_to_its_guest(
    gone: bool,  # noqa: FBT001
    lun: Path,
    vhost_guest: Guest,
    tmp_path: Path,
) -> None:
    """The kernel has a vhost-scsi target's storage open: whatever QEMU has open, it is not that."""
    (tmp_path / "other").write_bytes(b"")
    if gone:
        lun.with_name("by-path").unlink()
    with qemu(tmp_path, vhost_guest, f"r+{tmp_path / 'own'}", f"r+{tmp_path / 'other'}") as run_dir:
        reason, unseen = look(in_file(1, str(lun)), vhost_guest, run_dir)
    if gone:
        assert (reason, unseen is not None and "by-path does not tell which storage it is" in unseen) == (None, True)
    else:
        assert (reason is not None and "of the running guest g2 writes to the same storage" in reason, unseen) == (
            True,
            None,
        )


@pytest.mark.parametrize("named", ["<nvram template='/t'>{}</nvram>", "<nvram type='file'><source file='{}'/></nvram>"])
def test_the_firmware_s_variables_are_not_taken_for_a_disk(named: str, lun: Path, tmp_path: Path) -> None:
    """QEMU writes to them as to a disk."""
    (tmp_path / "vars.fd").write_bytes(b"")
    other = in_file(2, "/gone/x")
    xml = other.live_xml().replace("<devices>", f"<os>{named.format(tmp_path / 'vars.fd')}</os><devices>")
    other.live_xml = lambda: xml  # type: ignore[method-assign]
    with qemu(tmp_path, other, f"r+{tmp_path / 'vars.fd'}") as run_dir:
        assert look(in_file(1, str(lun)), other, run_dir) == (
            None,
            "disk vda of guest g2: /gone/x does not tell which storage it is",
        )


def test_a_guest_s_memory_is_not_taken_for_a_disk(tmp_path: Path) -> None:
    """It is a file without a name, or one that QEMU makes in a directory of huge pages."""
    (tmp_path / "qemu_back_mem.pc.ram.Xy12Ab").write_bytes(b"")
    (tmp_path / "disk").write_bytes(b"")
    memory = os.memfd_create("memory-backend-memfd")
    with os.fdopen(memory, "r+b", buffering=0), (tmp_path / "qemu_back_mem.pc.ram.Xy12Ab").open("r+b"):
        before = of_process(Path("/proc/self"))
        with (tmp_path / "disk").open("r+b"):
            names = {one.name for one in of_process(Path("/proc/self"))} - {one.name for one in before}
    assert names == {str(tmp_path / "disk")}
    assert not [one.name for one in before if "mem" in one.name.rpartition("/")[2]]


def test_an_open_file_has_the_keys_that_its_path_has(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"")
    with path.open("rb") as file:
        found = place_of_open(f"/proc/self/fd/{file.fileno()}")
        assert found is not None
        assert found.keys == places_of(str(path)).keys - {f"path {path}"}
        assert found.within == places_of(str(path)).within


def test_what_is_no_file_nor_block_device_is_no_storage() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w"), Path("/dev/null").open("rb") as null:
        assert [place_of_open(f"/proc/self/fd/{one}") for one in (reading, null.fileno())] == [None, None]


@pytest.mark.parametrize("path", ["/dev/null", "/", __file__])
def test_what_the_kernel_remembers_is_what_it_tells_when_it_looks(path: str) -> None:
    seen, told = cached(path), Path(path).stat()
    assert (stat.S_IFMT(seen.mode), seen.inode, seen.device) == (stat.S_IFMT(told.st_mode), told.st_ino, told.st_dev)
    assert seen.special == told.st_rdev


def test_a_process_of_somebody_else_tells_nothing_as_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        of_process(Path("/proc/0"))


def test_disks_that_tell_are_not_asked_for_by_descriptors(
    lun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "of_guest", lambda *_: pytest.fail("it was asked"))
    assert look(in_file(1, str(lun)), in_file(2, str(tmp_path)), tmp_path) == (None, None)
