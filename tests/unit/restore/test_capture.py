"""A capture comes back whole, or is refused before anything is written. libvirt is its own test driver here."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.repository import Manifest, Repository
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import disks_of, parse
from workers.restore.capture import plan_capture, restore_capture
from workers.restore.errors import (
    DefineNameError,
    DefinitionNotTrustedError,
    DefinitionUnfitError,
    DiskDamagedError,
    GuestDefinedError,
    RestoreError,
    TargetExistsError,
    TargetUnfitError,
)
from workers.restore.guest import Define
from workers.restore.image import ImageFormat

from .domains import EXTERNAL_ENTITY, TESTED, UUID
from .samples import (
    ALPHA,
    BETA,
    CHUNK,
    content,
    damage,
    disk_bytes,
    disk_capture,
    guest_capture,
    manifest_of,
    noise,
)

VDA = disk_bytes(3 * CHUNK + 512, (0, CHUNK), (3 * CHUNK, 512))
VDB = noise(9 * CHUNK, seed=7)


@pytest.fixture
def manifest(repository: Repository) -> Manifest:
    """Guest alpha with two disks, and beta with one."""
    disks = disk_capture(repository, VDA), disk_capture(repository, VDB, "vdb")
    return manifest_of(
        guest_capture(*disks, uuid=ALPHA, domain_xml=TESTED),
        guest_capture(disks[0], name="beta", uuid=BETA, domain_xml=TESTED.replace("alpha", "beta").replace(UUID, BETA)),
    )


@pytest.fixture
def hypervisor() -> Hypervisor:
    """The test driver of libvirt: its guests live as long as the connection."""
    return Hypervisor("test:///default")


def names(hypervisor: Hypervisor) -> set[str]:
    return {domain.name for domain in hypervisor.domains()}


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_all_guests_and_disks_come_back(
    repository: Repository, manifest: Manifest, target: Path, image_format: ImageFormat
) -> None:
    report = restore_capture(repository, manifest, target / "new" / "place", image_format=image_format)
    where = target / "new" / "place"
    end = image_format.value
    assert {path.name for path in where.iterdir()} == {
        f"alpha-vda.{end}",
        f"alpha-vdb.{end}",
        "alpha.xml",
        f"beta-vda.{end}",
        "beta.xml",
    }
    assert content(where / f"alpha-vda.{end}", image_format) == VDA
    assert content(where / f"alpha-vdb.{end}", image_format) == VDB
    assert (where / "alpha.xml").read_text() == TESTED
    assert [[disk.target for disk in guest.disks] for guest in report.guests] == [["vda", "vdb"], ["vda"]]
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_anything_that_exists_refuses_everything(repository: Repository, manifest: Manifest, target: Path) -> None:
    (target / "beta.xml").write_text("precious")
    with pytest.raises(TargetExistsError, match=r"beta\.xml"):
        restore_capture(repository, manifest, target)
    assert [path.name for path in target.iterdir()] == ["beta.xml"]
    restore_capture(repository, manifest, target, overwrite=True)
    assert len(list(target.iterdir())) == 5


def test_a_place_that_is_no_directory_is_refused(repository: Repository, manifest: Manifest, target: Path) -> None:
    (target / "file").touch()
    for place in (target / "file", target / "file" / "below"):
        with pytest.raises(TargetUnfitError):
            restore_capture(repository, manifest, place)


def test_damage_keeps_what_is_whole_and_says_so(
    repository: Repository, manifest: Manifest, root: Path, target: Path
) -> None:
    damage(repository, root, manifest.guests[0].disks[1].index, 5)
    with pytest.raises(DiskDamagedError, match="disk vdb of guest alpha") as caught:
        restore_capture(repository, manifest, target)
    left = {path.name for path in target.iterdir()}
    assert "alpha-vda.qcow2" in left
    assert left <= {
        "alpha-vda.qcow2",
        "beta-vda.qcow2",
    }  # which of two at work comes first is not told; no guest is whole
    assert all(str(target / name) in caught.value.hint for name in left)


def test_a_guest_is_defined_beside_the_one_it_was_captured_from(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor
) -> None:
    define = Define(hypervisor, "{guest}-restored", start=True)
    report = restore_capture(repository, manifest, target, define=define)
    assert {"alpha-restored", "beta-restored"} <= names(hypervisor)
    defined = report.guests[0].defined
    assert defined is not None
    assert defined.uuid != UUID
    domain = hypervisor.domain(defined.uuid)
    assert domain.active()
    sources = [(disk.target, disk.source_type, disk.source) for disk in disks_of(domain.stored_xml())]
    assert sources == [
        ("vda", "file", str(target / "alpha-vda.qcow2")),
        ("vdb", "file", str(target / "alpha-vdb.qcow2")),
    ]
    assert any("vdb" in warning for warning in report.guests[1].warnings)


def test_as_captured_keeps_name_and_uuid(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor
) -> None:
    report = restore_capture(repository, manifest, target, guests=["alpha"], define=Define(hypervisor))
    assert report.guests[0].defined is not None
    assert (report.guests[0].defined.name, report.guests[0].defined.uuid) == ("alpha", UUID)


@pytest.mark.case("G8")
@pytest.mark.parametrize("name", [None, "{guest}-restored"])
@pytest.mark.parametrize("autostart", [True, False, None])
def test_a_guest_that_started_with_its_host_does_so_again(
    repository: Repository,
    manifest: Manifest,
    target: Path,
    hypervisor: Hypervisor,
    name: str | None,
    autostart: bool | None,  # noqa: FBT001  a parameter of the test
) -> None:
    guest = manifest.guests[0].model_copy(update={"autostart": autostart})
    report = restore_capture(repository, manifest_of(guest), target, define=Define(hypervisor, name))
    defined = report.guests[0].defined
    assert defined is not None
    assert defined.autostart is bool(autostart)
    assert hypervisor.domain(defined.uuid).autostart() is bool(autostart)


@pytest.mark.case("G8")
@pytest.mark.parametrize("name", [None, "{guest}-restored"])
def test_title_description_and_metadata_are_kept(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor, name: str | None
) -> None:
    own = "<o:owner xmlns:o='http://example.org/1'>ops &amp; co</o:owner>"
    told = f"<title>Shop</title><description>Sells.</description><metadata>{own}</metadata>"
    guest = manifest.guests[0].model_copy(update={"domain_xml": TESTED.replace("<memory", f"{told}<memory")})
    report = restore_capture(repository, manifest_of(guest), target, define=Define(hypervisor, name))
    defined = report.guests[0].defined
    assert defined is not None
    root = parse(hypervisor.domain(defined.uuid).stored_xml())
    assert (root.findtext("title"), root.findtext("description")) == ("Shop", "Sells.")
    assert root.findtext("metadata/{http://example.org/1}owner") == "ops & co"


@pytest.mark.case("P5")
def test_a_guest_is_defined_with_a_disk_that_was_attached_to_its_run_only(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor
) -> None:
    stored = TESTED[: TESTED.index("<disk type='block'")] + TESTED[TESTED.index("</devices>") :]
    guest = manifest.guests[0].model_copy(update={"domain_xml": stored, "live_xml": TESTED})
    report = restore_capture(repository, manifest_of(guest), target, define=Define(hypervisor))
    assert report.guests[0].defined is not None
    sources = {disk.target: disk.source for disk in hypervisor.domain(UUID).disks()}
    assert sources == {"vda": str(target / "alpha-vda.qcow2"), "vdb": str(target / "alpha-vdb.qcow2")}


def test_a_guest_that_is_there_is_not_replaced(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor
) -> None:
    hypervisor.define(TESTED)
    for define in (Define(hypervisor), Define(hypervisor, "alpha")):
        with pytest.raises(GuestDefinedError):
            restore_capture(repository, manifest, target, guests=["alpha"], define=define)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["one", "a/{guest}", "\n{guest}", ""])
def test_names_to_define_by_are_checked(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor, name: str
) -> None:
    with pytest.raises(DefineNameError):
        restore_capture(repository, manifest, target, define=Define(hypervisor, name))
    assert list(target.iterdir()) == []


def test_malicious_xml_is_refused_before_anything_is_written(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor
) -> None:
    guest = manifest.guests[0].model_copy(update={"domain_xml": EXTERNAL_ENTITY})
    with pytest.raises(DefinitionUnfitError):
        restore_capture(repository, manifest_of(guest), target, define=Define(hypervisor))
    assert list(target.iterdir()) == []


SCRIPT = "<interface type='ethernet'><script path='/etc/cron.daily/x'/></interface>"


@pytest.mark.parametrize("name", [None, "{guest}-restored"])
def test_a_definition_that_reaches_beyond_its_guest_is_refused_before_anything_is_written(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor, name: str | None
) -> None:
    xml = TESTED.replace("</devices>", f"{SCRIPT}</devices>")
    reaching = manifest_of(manifest.guests[0].model_copy(update={"domain_xml": xml}))
    for call in (restore_capture, plan_capture):
        with pytest.raises(DefinitionNotTrustedError) as refused:
            call(repository, reaching, target, define=Define(hypervisor, name))
        assert "<devices/interface/script path='/etc/cron.daily/x'>" in refused.value.message
        assert "guest alpha " in refused.value.message
        assert "--trust-definition" in refused.value.hint
    assert list(target.iterdir()) == []
    assert [one.name for one in hypervisor.domains()] == ["test"]


def test_a_definition_that_is_trusted_is_defined_and_what_reaches_beyond_its_guest_is_told(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor
) -> None:
    xml = TESTED.replace("</devices>", "<emulator>/usr/bin/other</emulator></devices>")
    reaching = manifest_of(manifest.guests[0].model_copy(update={"domain_xml": xml}))
    report = restore_capture(repository, reaching, target, define=Define(hypervisor, trust=True))
    assert report.guests[0].defined is not None
    assert report.guests[0].warnings == ("Its definition is trusted with <devices/emulator> /usr/bin/other.",)


def test_disks_are_restored_without_a_word_about_a_definition_that_nobody_wants(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    xml = TESTED.replace("</devices>", f"{SCRIPT}</devices>")
    reaching = manifest_of(manifest.guests[0].model_copy(update={"domain_xml": xml}))
    report = restore_capture(repository, reaching, target)
    assert (report.guests[0].defined, report.guests[0].warnings) == (None, ())


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/b", "", "a\nb"])  # noqa: S108  nothing is written there
def test_a_guest_name_that_libvirt_refuses_is_no_path(
    repository: Repository, manifest: Manifest, target: Path, name: str
) -> None:
    guest = manifest.guests[0].model_copy(update={"name": name})
    with pytest.raises(RestoreError):
        restore_capture(repository, manifest_of(guest), target)
    assert list(target.iterdir()) == []


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ["..", ".", ".hidden", "-rf", "~", "a b", "db@prod", "x" * 250])
def test_no_guest_name_leaves_the_directory(
    repository: Repository, manifest: Manifest, target: Path, name: str
) -> None:
    guest = manifest.guests[0].model_copy(update={"name": name})
    before = set(target.parent.rglob("*"))
    report = restore_capture(repository, manifest_of(guest), target)
    made = [path for path in target.rglob("*") if path.is_file()]
    assert len(made) == len(report.guests[0].disks) + 1  # and its definition
    assert all(not path.name.startswith((".", "-")) for path in made)
    assert {path for path in target.parent.rglob("*") if target not in path.parents} <= before | {target}
