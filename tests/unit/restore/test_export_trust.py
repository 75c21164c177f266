"""An exported definition that reaches beyond its guest says so before it says how to define it: virsh asks nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.repository import Repository
from workers.exchange.description import README
from workers.exchange.export import export_capture
from workers.hypervisor.disk import parse
from workers.restore.image import ImageFormat
from workers.restore.rules import Host
from workers.restore.trust import reaches

from .corpus import CORPUS, UUID
from .samples import CHUNK, disk_bytes, disk_capture, guest_capture, manifest_of

DISK = disk_bytes(2 * CHUNK, (0, CHUNK))
SCRIPT = "<interface type='ethernet'><script path='/opt/evil'/></interface>"


def exported(place: Path, xml: str) -> str:
    """Export a capture of a guest with that definition; its README."""
    repository = Repository.init(place / "repository", chunk_bytes=CHUNK)
    manifest = manifest_of(guest_capture(disk_capture(repository, DISK), name="vm", uuid=UUID, domain_xml=xml))
    repository.write_manifest(manifest)
    export_capture(repository, manifest, place / "set", image_format=ImageFormat.RAW)
    return (place / "set" / README).read_text(encoding="utf-8")


@pytest.mark.parametrize("sort", ["bios, spice", "uefi with secure boot, vnc", "arm"])
def test_a_usual_definition_is_exported_without_a_word(tmp_path: Path, sort: str) -> None:
    assert "reach beyond" not in exported(tmp_path, CORPUS[sort])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("<memballoon", f"{SCRIPT}<memballoon", "/opt/evil"),
        ("/usr/bin/qemu-system-x86_64", "/opt/evil", "/opt/evil"),
        ("/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-nbd", "/usr/bin/qemu-nbd"),
    ],
)
def test_what_reaches_beyond_is_named_before_the_command(tmp_path: Path, before: str, after: str, said: str) -> None:
    text = exported(tmp_path, CORPUS["bios, spice"].replace(before, after))
    note = next(line for line in text.splitlines() if "reach beyond" in line)
    assert said in note
    name = note.partition("Look at ")[2].partition(" before")[0]
    assert parse((tmp_path / "set" / name).read_text(encoding="utf-8")).tag == "domain"
    assert text.index(note) < text.index(f"virsh define {name}")


def test_an_unknown_host_has_the_programs_that_distributions_call_qemu() -> None:
    for program in ("/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm", "/usr/bin/qemu-kvm"):
        xml = f"<domain><devices><emulator>{program}</emulator></devices></domain>"
        assert reaches(xml, Host(None)) == ()
        assert reaches(xml, Host(set())) != ()
