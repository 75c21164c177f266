"""A guest of any name goes out as an image set, comes in again, is restored and can be defined (case I5)."""

from __future__ import annotations

import re
import shlex
import subprocess
from contextlib import closing
from pathlib import Path
from xml.sax.saxutils import escape

import libvirt
import pytest

from freezeframe.repository import Repository
from tests.odd_names import ODD_NAMES
from workers.exchange.export import export_capture
from workers.exchange.imports import import_capture
from workers.exchange.wanted import from_set
from workers.hypervisor.connection import Hypervisor
from workers.restore.capture import restore_capture
from workers.restore.guest import Define
from workers.restore.image import ImageFormat

from .domains import TESTED, UUID
from .samples import ALPHA, BETA, CHUNK, disk_bytes, disk_capture, guest_capture, manifest_of

pytestmark = pytest.mark.case("I5")

VDA = disk_bytes(3 * CHUNK + 512, (0, CHUNK))
#: Every third of the odd ones, since each costs a repository; and those whose files get another name.
NAMES = [*ODD_NAMES[::3], "-rf", ".hidden", "x" * 240]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository.init(tmp_path_factory.mktemp("all") / "repository", chunk_bytes=CHUNK)


@pytest.mark.parametrize("name", NAMES)
def test_out_and_in_and_back_by_name(repository: Repository, tmp_path: Path, name: str) -> None:
    disk = disk_capture(repository, VDA)
    xml = TESTED.replace("<name>alpha</name>", f"<name>{escape(name)}</name>").replace(UUID, ALPHA)
    manifest = manifest_of(
        guest_capture(disk, name=name, uuid=ALPHA, domain_xml=xml), guest_capture(disk, name="other", uuid=BETA)
    )
    export_capture(repository, manifest, tmp_path / "set", guests=[name])
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "set", capture_output=True, check=False)
    assert sums.returncode == 0, sums.stdout
    readme = (tmp_path / "set" / "README.txt").read_text()
    defined = re.findall(r"virsh define (.+) && virsh start (\S+)$", readme, re.MULTILINE)
    assert len(defined) == 1
    assert (tmp_path / "set" / shlex.split(defined[0][0])[0]).is_file()
    assert defined[0][1] in {name, ALPHA}
    into = Repository.init(tmp_path / "into", chunk_bytes=CHUNK)
    imported = into.manifest(import_capture(into, from_set(tmp_path / "set", [name])).capture_id)
    assert [(guest.name, guest.guest_uuid) for guest in imported.guests] == [(name, ALPHA)]
    back = restore_capture(into, imported, tmp_path / "back", image_format=ImageFormat.RAW, guests=[name])
    [restored] = back.guests
    assert [disk.path.read_bytes() for disk in restored.disks if disk.path is not None] == [VDA]
    assert {path.parent for path in (tmp_path / "back").iterdir()} == {tmp_path / "back"}


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_guest_of_any_name_is_defined(repository: Repository, tmp_path: Path, name: str) -> None:
    disks = disk_capture(repository, VDA), disk_capture(repository, VDA, "vdb")
    xml = TESTED.replace("<name>alpha</name>", f"<name>{escape(name)}</name>")
    manifest = manifest_of(guest_capture(*disks, name=name, uuid=ALPHA, domain_xml=xml))
    hypervisor = Hypervisor("test:///default")
    report = restore_capture(
        repository, manifest, tmp_path / "to", image_format=ImageFormat.QCOW2, define=Define(hypervisor)
    )
    [guest] = report.guests
    assert guest.defined is not None
    assert guest.defined.name == name
    with closing(libvirt.open("test:///default")) as connection:
        connection.lookupByUUIDString(guest.defined.uuid).undefine()
