"""Disks that are exchanged or replaced while their guest is off: never built upon another disk's index, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from freezeframe.contract.words import CaptureKind
from freezeframe.repository import DiskCapture
from ops.lab import Lab, blank
from ops.lab.guest import Guest
from ops.system import System
from ops.trial.truth import read_truth, transfers_paused, wait_until_transferring

from .command import Command
from .inventory import one_more_guest, published

Capture = Callable[[], dict[str, DiskCapture]]


@pytest.fixture(scope="module")
def guest(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest with three equal data disks; it boots from none of them."""
    with one_more_guest(system, lab, "host-a", "swapper", blank(3, 64)) as made:
        yield made


@pytest.fixture
def capture(guest: Guest, system: System, command: Command, tmp_path: Path) -> Capture:
    """Capture the guest, and compare every disk with what qemu-img reads of the same exports."""

    def take() -> dict[str, DiskCapture]:
        with transfers_paused(system):
            process = command.begin("capture", guest.name)
            capture_id = wait_until_transferring(system.redis, process)
            truth = read_truth(guest, tmp_path)
        outcome = command.finish(process)
        assert outcome.code == 0, outcome.stderr
        disks = {disk.target: disk for _, disk in system.repository.manifest(capture_id).disks()}
        assert disks.keys() == truth.keys()
        for target, disk in disks.items():
            with system.repository.disk_reader(disk.index) as reader:
                stored = b"".join(extent.data or bytes(extent.length) for extent in reader)
            assert stored == truth[target].path.read_bytes(), f"{target} is not what the guest had"
        return disks

    return take


def change_while_off(guest: Guest, system: System, change: Callable[[], None]) -> None:
    guest.shutdown()
    change()
    guest.start()
    guest.wait_ready()
    published(system, guest.name, "running")


def exchange(guest: Guest, one: str, other: str) -> None:
    """Give two targets each other's image, in the guest's definition."""
    root = etree.fromstring(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    sources = [root.find(f"devices/disk/target[@dev='{target}']/../source") for target in (one, other)]
    first, second = (source for source in sources if source is not None)
    first_file, second_file = first.get("file", ""), second.get("file", "")
    first.set("file", second_file)
    second.set("file", first_file)
    guest.host.connection().defineXML(etree.tostring(root, encoding="unicode"))


def image(guest: Guest, target: str) -> Path:
    """The file that is at a target now, which an exchange may have changed."""
    source = etree.fromstring(guest.domain.XMLDesc()).find(f"devices/disk/target[@dev='{target}']/../source")
    assert source is not None
    return Path(source.get("file", ""))


def kinds(disks: dict[str, DiskCapture]) -> dict[str, str]:
    return {target: str(disk.kind) for target, disk in disks.items()}


@pytest.mark.case("I2")
def test_disks_that_exchange_their_targets_stay_incremental_each_upon_its_own_capture(
    guest: Guest, system: System, capture: Capture
) -> None:
    before = capture()
    change_while_off(guest, system, lambda: exchange(guest, "vdb", "vdc"))
    after = capture()
    assert set(kinds(after).values()) == {"incremental"}, {disk.full_reason for disk in after.values()}
    assert after["vda"].parent_index == before["vda"].index
    assert after["vdb"].parent_index == before["vdc"].index
    assert after["vdc"].parent_index == before["vdb"].index
    assert after["vdb"].identity == before["vdc"].identity


@pytest.mark.case("I2")
def test_images_that_exchange_their_names_are_full_with_the_reason(
    guest: Guest, system: System, capture: Capture
) -> None:
    capture()
    one, other = image(guest, "vdb"), image(guest, "vdc")

    def swap() -> None:
        one.rename(one.with_suffix(".old"))
        other.rename(one)
        one.with_suffix(".old").rename(other)

    change_while_off(guest, system, swap)
    after = capture()
    assert kinds(after) == {"vda": "incremental", "vdb": "full", "vdc": "full"}
    assert "it is not the disk that capture" in (after["vdb"].full_reason or "")
    assert "inode" in (after["vdc"].full_reason or "")


@pytest.mark.case("I3")
def test_an_image_that_was_replaced_by_one_with_our_bitmap_is_full_and_the_others_are_not(
    guest: Guest, system: System, capture: Capture
) -> None:
    capture()
    one, other = image(guest, "vdb"), image(guest, "vdc")

    def replace() -> None:
        shutil.copyfile(other, one.with_suffix(".new"))
        one.with_suffix(".new").replace(one)

    change_while_off(guest, system, replace)
    after = capture()
    assert kinds(after) == {"vda": "incremental", "vdb": "full", "vdc": "incremental"}
    assert after["vdb"].kind is CaptureKind.FULL
    assert "it is not the disk that capture" in (after["vdb"].full_reason or "")


@pytest.mark.case("I3")
def test_an_image_that_was_overwritten_in_place_is_found_by_the_audit_told_and_marked(
    guest: Guest, system: System, command: Command, capture: Capture
) -> None:
    """The same file with the bytes of another disk, our bitmap's name among them: no proof of disk or bitmap sees that."""
    before = capture()
    one, other = image(guest, "vdb"), image(guest, "vda")

    def overwrite() -> None:
        with one.open("r+b") as file:
            file.write(other.read_bytes())
            file.truncate()

    change_while_off(guest, system, overwrite)
    after = capture()
    assert kinds(after) == {"vda": "incremental", "vdb": "full", "vdc": "incremental"}
    assert after["vdb"].identity == before["vdb"].identity
    assert "although no change was recorded" in (after["vdb"].full_reason or "")
    captures = command("captures").answer
    newest, older = (one["capture_id"] for one in captures["captures"][:2])
    [mark] = captures["suspects"]
    assert (mark["capture_id"], mark["found_by"]) == (older, newest)
    [warning] = system.repository.manifest(newest).guests[0].warnings
    assert f"Disk vdb of guest {guest.name} is not what capture {older} has of it" in warning
    receipt = command("captures", "show", newest).answer
    assert receipt["guests"][0]["warnings"] == [warning]
    assert kinds(capture()) == {"vda": "incremental", "vdb": "incremental", "vdc": "incremental"}
