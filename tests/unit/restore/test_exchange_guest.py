"""A guest that leaves as files comes back as it was captured: with disks of its run only, and its start with the host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository import GuestCapture, Manifest, Repository
from workers.exchange import errors
from workers.exchange.description import Description, ExportedGuest
from workers.exchange.export import export_capture
from workers.exchange.imports import import_capture
from workers.exchange.wanted import from_set
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import disks_of
from workers.restore.capture import restore_capture
from workers.restore.guest import Define

from .domains import TESTED
from .samples import ALPHA, CHUNK, disk_capture, guest_capture, manifest_of, noise

VDA, VDB = noise(2 * CHUNK, seed=1), noise(CHUNK, seed=2)
#: The definition of the next start, without the disk vdb that the guest ran with.
STORED = re.sub(r"<disk(?:(?!</disk>).)*dev=.vdb.(?:(?!</disk>).)*</disk>", "", TESTED, flags=re.DOTALL)
#: What of a captured guest does not come back as it was, and why.
NOT_CARRIED = {
    "consistency": "only claimed: the import knows of no proof, and keeps the claim of the whole capture",
    "hold_ms": "it was held by another capture",
    "disks": "stored anew",
    "warnings": "one more, that nothing is known of the instant",
}


def captured(repository: Repository, *, autostart: bool | None = True, live_xml: str = TESTED) -> Manifest:
    disks = disk_capture(repository, VDA), disk_capture(repository, VDB, "vdb")
    guest = guest_capture(*disks, uuid=ALPHA, domain_xml=STORED)
    made = manifest_of(guest.model_copy(update={"live_xml": live_xml, "autostart": autostart}))
    repository.write_manifest(made)
    return made


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "first", chunk_bytes=CHUNK)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "elsewhere", chunk_bytes=CHUNK)


def brought(repository: Repository, elsewhere: Repository, manifest: Manifest, directory: Path) -> GuestCapture:
    export_capture(repository, manifest, directory)
    report = import_capture(elsewhere, from_set(directory))
    (guest,) = elsewhere.manifest(report.capture_id).guests
    return guest


@pytest.mark.case("P5", "G8")
def test_a_disk_of_the_run_only_is_there_after_export_import_and_restore(
    repository: Repository, elsewhere: Repository, tmp_path: Path
) -> None:
    assert [disk.target for disk in disks_of(STORED) if disk.device == "disk"] != ["vda", "vdb"]
    guest = brought(repository, elsewhere, captured(repository), tmp_path / "set")
    hypervisor = Hypervisor("test:///default")
    manifest = manifest_of(guest)
    report = restore_capture(elsewhere, manifest, tmp_path / "back", define=Define(hypervisor, "back-{guest}"))
    (restored,) = report.guests
    assert restored.defined is not None
    (domain,) = [one for one in hypervisor.domains() if one.name == restored.defined.name]
    assert {disk.target for disk in disks_of(domain.stored_xml())} >= {"vda", "vdb"}


@pytest.mark.case("P5", "G8")
@pytest.mark.parametrize("autostart", [None, False, True])
def test_every_field_of_a_captured_guest_is_carried_or_has_a_reason(
    repository: Repository, elsewhere: Repository, tmp_path: Path, *, autostart: bool | None
) -> None:
    """A field that is added to a captured guest fails here until it is carried too."""
    manifest = captured(repository, autostart=autostart)
    guest = brought(repository, elsewhere, manifest, tmp_path / "set")
    carried = set(GuestCapture.model_fields) - set(NOT_CARRIED)
    assert guest.model_dump(include=carried) == manifest.guests[0].model_dump(include=carried)
    assert guest.live_xml == TESTED
    assert guest.autostart is autostart


@pytest.mark.parametrize(("autostart", "told"), [(True, 1), (False, 0), (None, 0)])
def test_the_readme_says_how_it_starts_with_its_host_again(
    repository: Repository, tmp_path: Path, *, autostart: bool | None, told: int
) -> None:
    export_capture(repository, captured(repository, autostart=autostart), tmp_path / "set")
    assert (tmp_path / "set" / "README.txt").read_text().count("virsh autostart alpha") == told


def test_a_set_without_these_is_read_and_one_that_has_nothing_to_say_is_as_it_was(
    repository: Repository, elsewhere: Repository, tmp_path: Path
) -> None:
    """As those are that were made before sets had these two."""
    guest = brought(repository, elsewhere, captured(repository, autostart=None, live_xml=""), tmp_path / "set")
    raw = json.loads((tmp_path / "set" / "export.json").read_text())
    assert set(raw["guests"][0]) == set(ExportedGuest.model_fields) - {"live_xml", "autostart"}
    assert (guest.live_xml, guest.autostart) == ("", None)


def _format(raw: dict[str, Any]) -> None:
    raw["format"] = 2


def _critical_key(raw: dict[str, Any]) -> None:
    raw["guests"][0]["tpm"] = "tpm.bin"
    raw["critical"] = ["tpm"]


def _word(raw: dict[str, Any]) -> None:
    raw["guests"][0]["disks"][0]["format"] = "vmdk"


@pytest.mark.parametrize("change", [_format, _critical_key, _word])
def test_a_set_of_a_newer_version_is_told_as_such(repository: Repository, tmp_path: Path, change: Any) -> None:
    export_capture(repository, captured(repository), tmp_path / "set")
    path = tmp_path / "set" / "export.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(errors.ImageSetNewerError, match="newer version of freezeframe"):
        from_set(tmp_path / "set")


@pytest.mark.case("R4")
def test_a_set_with_a_key_that_need_not_be_known_is_imported(
    repository: Repository, elsewhere: Repository, tmp_path: Path
) -> None:
    export_capture(repository, captured(repository), tmp_path / "set")
    path = tmp_path / "set" / "export.json"
    raw = json.loads(path.read_text())
    raw["guests"][0]["tpm"] = raw["more"] = {"file": "tpm.bin"}
    path.write_text(json.dumps(raw))
    assert from_set(tmp_path / "set").guests


@pytest.mark.parametrize("text", ["", "[]", '{"format": "2"}', '{"format": 0}', '{"format": true}', "[" * 100_000])
def test_what_is_no_description_is_not_told_as_newer(tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(errors.ImageSetUnfitError) as error:
        from_set(tmp_path)
    assert not isinstance(error.value, errors.ImageSetNewerError)
    assert Description.model_fields["format"].default == 1
