"""A capture that leaves as files comes back byte for byte, is of use without us, and claims nothing that is not known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import typer
from lxml import etree
from typer.testing import CliRunner

from freezeframe.cli.captures import captures
from freezeframe.contract.words import Consistency, HoldKind
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.session import SessionState
from workers.exchange import errors
from workers.exchange.commands import export, import_
from workers.exchange.export import export_capture
from workers.exchange.imports import import_capture
from workers.exchange.wanted import from_images, from_set
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.disk import disks_of
from workers.restore.capture import restore_capture
from workers.restore.errors import AmbiguousGuestError, DiskDamagedError, NotInCaptureError
from workers.restore.image import ImageFormat

from .domains import TESTED, UUID
from .dying import killed_at
from .samples import (
    ALPHA,
    BETA,
    CAPTURE,
    CHUNK,
    content,
    damage,
    disk_bytes,
    disk_capture,
    guest_capture,
    manifest_of,
    noise,
)

VDA = disk_bytes(9 * CHUNK + 512, (0, CHUNK), (4 * CHUNK + 70_000, CHUNK), (9 * CHUNK, 512))
VDB = noise(5 * CHUNK + 333, seed=7)  # no multiple of a sector
BOTH = pytest.mark.parametrize("image_format", list(ImageFormat))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One for all: a repository is not changed by an export, and its folders are many."""
    return Repository.init(tmp_path_factory.mktemp("all") / "repository", chunk_bytes=CHUNK)


@pytest.fixture(scope="module")
def manifest(repository: Repository) -> Manifest:
    return sealed(repository)


def sealed(repository: Repository) -> Manifest:
    """A capture of guest alpha with two disks, and beta with one and a backslash in its name."""
    disks = disk_capture(repository, VDA), disk_capture(repository, VDB, "vdb")
    beta = TESTED.replace("alpha", "be\\ta").replace(UUID, BETA)
    made = manifest_of(
        guest_capture(*disks, uuid=ALPHA, domain_xml=TESTED),
        guest_capture(disks[0], name="be\\ta", uuid=BETA, domain_xml=beta),
    )
    repository.write_manifest(made)
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Repository:
    """Another repository, with another chunk size."""
    return Repository.init(tmp_path / "elsewhere", chunk_bytes=CHUNK // 4)


@pytest.fixture
def hypervisor() -> Hypervisor:
    return Hypervisor("test:///default")


def run(*words: object, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@BOTH
def test_out_and_in_and_back_is_byte_for_byte(
    repository: Repository, elsewhere: Repository, manifest: Manifest, target: Path, image_format: ImageFormat
) -> None:
    directory = target / "set"
    export_capture(repository, manifest, directory, image_format=image_format)
    report = import_capture(elsewhere, from_set(directory))
    found = elsewhere.manifest(report.capture_id)
    restore_capture(elsewhere, found, target / "back", image_format=ImageFormat.RAW)
    assert (target / "back" / "alpha-vda.raw").read_bytes() == VDA
    assert (target / "back" / "alpha-vdb.raw").read_bytes() == VDB
    assert (target / "back" / "be\\ta-vda.raw").read_bytes() == VDA
    assert (target / "back" / "alpha.xml").read_text() == TESTED
    end = image_format.value
    run(
        "qemu-img", "compare", "-f", "raw", "-F", end, target / "back" / "alpha-vda.raw", directory / f"alpha-vda.{end}"
    )


@BOTH
def test_a_set_is_of_use_without_us(
    repository: Repository, manifest: Manifest, target: Path, hypervisor: Hypervisor, image_format: ImageFormat
) -> None:
    directory, end = target / "set", image_format.value
    report = export_capture(repository, manifest, directory, image_format=image_format)
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert files == {
        *("README.txt", "SHA256SUMS", "export.json"),
        *(f"alpha-vda.{end}", f"alpha-vdb.{end}", "alpha.xml", "define/alpha.xml"),
        *(f"be\\ta-vda.{end}", "be\\ta.xml", "define/be\\ta.xml"),
    }
    assert set(report.files) == files
    assert run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=directory).count(": OK\n") == len(files) - 1
    assert content(directory / f"alpha-vda.{end}", image_format) == VDA
    info = json.loads(run("qemu-img", "info", "--output=json", directory / f"alpha-vda.{end}"))
    assert info["format"] == end
    assert "backing-filename" not in info
    domain = hypervisor.define((directory / "define" / "alpha.xml").read_text())
    assert [disk.source for disk in disks_of(domain.stored_xml())] == [
        str(directory / f"alpha-vda.{end}"),
        str(directory / f"alpha-vdb.{end}"),
    ]
    readme = (directory / "README.txt").read_text()
    assert str(directory) in readme
    assert f"alpha-vda.{end}" in readme
    assert not (target / "set.partial").exists()


#: Directories that shells, `sed` and XML read in their own way.
ODD_PLACES = (
    *(
        "R&D",
        'a"b',
        "it's",
        "cost $5",
        "$(id)",
        "`id`",
        "a\\1b",
        "a|b/c",
        "two  spaces ",
        "<x>",
        "a;b",
        "#1",
        "100%",
        "!!",
    ),
    *("&amp;", "new\nline", "tab\t", "Größe", "数据库", "-n", "{x}", "*"),
)


def advised(directory: Path) -> str:
    [line] = [one for one in (directory / "README.txt").read_text().splitlines() if one.startswith("    python3 -c ")]
    return line


def sources(definition: Path) -> list[str | None]:
    return [one.get("file") for one in etree.fromstring(definition.read_bytes()).iterfind("devices/disk/source")]


@pytest.mark.case("I5")
@pytest.mark.parametrize("place", ODD_PLACES)
def test_the_readmes_command_moves_a_set_to_and_from_anywhere(
    repository: Repository, manifest: Manifest, target: Path, place: str
) -> None:
    (target / place).parent.mkdir(exist_ok=True)
    export_capture(repository, manifest, target / "set", guests=["alpha"])
    for before, after in (("set", place), (place, "back")):
        moved = (target / before).rename(target / after)
        subprocess.run(["/bin/bash", "-c", advised(moved)], check=True, cwd=moved)
        assert sources(moved / "define" / "alpha.xml") == [
            str(moved / f"alpha-{disk}.qcow2") for disk in ("vda", "vdb")
        ]


def test_the_readmes_command_leaves_other_files_and_what_it_cannot_write_alone(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    export_capture(repository, manifest, target / "set", guests=["alpha"])
    made = target / "set" / "define" / "alpha.xml"
    other = "<disk><source index='1' file=\"/srv/other.iso\"/></disk></devices>"
    made.write_text(made.read_text().replace("</devices>", other))
    moved = (target / "set").rename(target / "moved")
    subprocess.run(["/bin/sh", "-c", advised(moved)], check=True, cwd=moved)
    own = [str(moved / "alpha-vda.qcow2"), str(moved / "alpha-vdb.qcow2")]
    assert sources(moved / "define" / "alpha.xml") == [*own, "/srv/other.iso"]
    unspeakable = moved.rename(os.fsdecode(bytes(target) + b"/\xff"))
    ran = subprocess.run(["/bin/sh", "-c", advised(unspeakable)], check=False, cwd=unspeakable, capture_output=True)
    assert ran.returncode != 0
    assert sources(unspeakable / "define" / "alpha.xml") == [*own, "/srv/other.iso"]


def test_only_some_guests(repository: Repository, manifest: Manifest, target: Path) -> None:
    export_capture(repository, manifest, target / "set", guests=["alpha"])
    assert not list((target / "set").glob("be*"))
    with pytest.raises(NotInCaptureError):
        export_capture(repository, manifest, target / "other", guests=["gamma"])
    assert [path.name for path in target.iterdir()] == ["set"]


@pytest.mark.case("I5", "I6")
def test_guests_of_one_name_go_out_and_in_by_their_uuids_only(
    repository: Repository, elsewhere: Repository, target: Path
) -> None:
    first, second = (
        guest_capture(disk_capture(repository, disk_bytes(CHUNK, (0, 512 * n))), name="web", uuid=uuid)
        for n, uuid in enumerate((ALPHA, BETA), 1)
    )
    both = manifest_of(first, second.model_copy(update={"host_id": "host-b.example"}))
    with pytest.raises(AmbiguousGuestError, match=f"{ALPHA} of host host-a.example and {BETA} of host host-b.example"):
        export_capture(repository, both, target / "set", guests=["web"])
    assert list(target.iterdir()) == []
    export_capture(repository, both, target / "set")
    with pytest.raises(AmbiguousGuestError, match=f"{ALPHA} of host host-a.example") as refused:
        from_set(target / "set", ["web"])
    assert f"--guest {ALPHA} or --guest {BETA}" in refused.value.hint
    assert [one.guest_uuid for one in from_set(target / "set", [BETA]).guests] == [BETA]
    imported = import_capture(elsewhere, from_set(target / "set", [BETA, ALPHA]))
    assert {one.guest_uuid for one in elsewhere.manifest(imported.capture_id).guests} == {ALPHA, BETA}


def test_a_guest_without_a_usable_definition_is_exported_all_the_same(repository: Repository, target: Path) -> None:
    made = manifest_of(guest_capture(disk_capture(repository, VDA), domain_xml="<not-a-domain/>"))
    export_capture(repository, made, target / "set")
    assert (target / "set" / "alpha.xml").read_text() == "<not-a-domain/>"
    assert json.loads((target / "set" / "export.json").read_text())["guests"][0]["define"] is None


def test_what_is_there_is_not_replaced(repository: Repository, manifest: Manifest, target: Path) -> None:
    for name in ("file", "full"):
        (target / "full").mkdir(exist_ok=True)
        (target / "full" / "precious").touch()
        (target / "file").touch()
        with pytest.raises(errors.ExportTargetError):
            export_capture(repository, manifest, target / name)
    (target / "empty").mkdir()
    export_capture(repository, manifest, target / "empty")
    with pytest.raises(errors.ExportTargetError):
        export_capture(repository, manifest, target / "none" / "below")


def test_killed_at_any_step_nothing_half_has_the_name_and_the_next_is_whole(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    directory, partial = target / "set", target / "set.partial"
    for step in range(0, 400, 9):
        lived = killed_at(step, lambda: export_capture(repository, manifest, directory))
        if not lived and not directory.exists():
            if partial.exists():
                (partial / "left-by-something").write_text("not the capture's")
                for image in partial.glob("*.qcow2"):
                    with image.open("r+b") as file:  # whatever is there is not believed
                        file.seek(image.stat().st_size // 2)  # in the middle of data
                        file.write(b"?")
            export_capture(repository, manifest, directory)
        run("sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS", cwd=directory)
        assert content(directory / "alpha-vda.qcow2", ImageFormat.QCOW2) == VDA
        assert len(list(directory.iterdir())) == 9
        assert [path.name for path in target.iterdir()] == ["set"]
        run("rm", "-r", directory)
        if lived:
            assert step > 30
            return
    pytest.fail("no export came to its end")


def test_damage_leaves_no_set(root: Path, target: Path) -> None:
    repository = Repository.init(root, chunk_bytes=CHUNK)
    manifest = sealed(repository)
    damage(repository, root, manifest.guests[0].disks[1].index, 3)
    with pytest.raises(DiskDamagedError):
        export_capture(repository, manifest, target / "set")
    assert not (target / "set").exists()


def test_an_import_that_is_killed_at_any_step_has_sealed_all_or_nothing(
    repository: Repository,
    elsewhere: Repository,
    manifest: Manifest,
    target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what a killed one leaves there is the test's own
    export_capture(repository, manifest, target / "set", guests=["alpha"])
    wanted = from_set(target / "set")
    for step in range(0, 400, 17):
        lived = killed_at(step, lambda: import_capture(elsewhere, wanted))
        for found in elsewhere.manifests():
            read = [_whole(elsewhere, disk.index) for _, disk in found.disks()]
            assert read == [VDA, VDB]
        while _servers(
            target / "set"
        ):  # it has yet to notice that its clients are gone; the test's own limit ends this
            time.sleep(0.01)
        if lived:
            assert elsewhere.manifests()
            return
    pytest.fail("no import came to its end")


def _servers(directory: Path) -> list[str]:
    """Processes that serve an image of the set."""
    found = []
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = arguments.read_bytes()
            if words.startswith(b"qemu-nbd") and str(directory).encode() in words:
                found.append(arguments.parent.name)
    return found


def _whole(repository: Repository, index: str) -> bytes:
    with repository.disk_reader(index) as reader:
        return b"".join(extent.data or bytes(extent.length) for extent in reader)


def test_an_import_claims_no_more_than_is_known(
    repository: Repository, elsewhere: Repository, manifest: Manifest, target: Path
) -> None:
    export_capture(repository, manifest, target / "set")
    found = elsewhere.manifest(import_capture(elsewhere, from_set(target / "set")).capture_id)
    assert (manifest.consistency, manifest.guests[0].consistency) == (Consistency.GUEST, Consistency.GUEST)
    assert (found.consistency, found.guests[0].consistency) == (Consistency.CRASH, Consistency.CRASH)
    assert (found.hold, found.proof, found.guests[0].hold_ms) == (HoldKind.NONE, None, None)
    assert found.imported is not None
    assert (found.imported.capture_id, found.imported.consistency) == (CAPTURE, Consistency.GUEST)
    assert found.capture_id != CAPTURE
    assert all(disk.checkpoint is None for _, disk in found.disks())
    assert any("not known" in warning for warning in found.guests[0].warnings)


def test_a_manifest_without_an_import_is_written_as_before(manifest: Manifest) -> None:
    """Programs that know of no imports refuse unknown keys."""
    assert b"imported" not in manifest.to_json()


def test_what_the_repository_knows_is_not_stored_again(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    export_capture(repository, manifest, target / "set")
    report = import_capture(repository, from_set(target / "set"))
    assert sum(disk.chunks_new for disk in report.disks) == 0
    assert sum(disk.chunks_known for disk in report.disks) > 10


@pytest.mark.parametrize("name", ["alpha-vda.qcow2", "alpha.xml", "export.json"])
def test_a_file_that_is_missing_is_told(repository: Repository, manifest: Manifest, target: Path, name: str) -> None:
    export_capture(repository, manifest, target / "set")
    (target / "set" / name).unlink()
    with pytest.raises(errors.ExchangeError, match=name):
        from_set(target / "set")


def test_a_changed_image_is_found_before_anything_is_stored(
    repository: Repository, manifest: Manifest, target: Path
) -> None:
    export_capture(repository, manifest, target / "set")
    with (target / "set" / "alpha-vdb.qcow2").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"?")
    with pytest.raises(errors.ImageSetDamagedError, match="alpha-vdb"):
        from_set(target / "set")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"kind": "other"},
        {"unknown": 1, "critical": ["unknown"]},
        {"file": "../secret"},
        {"file": "/etc/shadow"},
        {"file": ".."},
        {"size_bytes": 1 << 40},
    ],
)
def test_a_description_is_not_believed(
    repository: Repository, manifest: Manifest, target: Path, change: dict[str, object]
) -> None:
    export_capture(repository, manifest, target / "set")
    path = target / "set" / "export.json"
    document = json.loads(path.read_text())
    where = document["guests"][0]["disks"][0] if change.keys() & {"file", "size_bytes"} else document
    where.update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(errors.ImageSetUnfitError):
        from_set(target / "set")


def test_a_link_out_of_the_set_is_not_followed(repository: Repository, manifest: Manifest, target: Path) -> None:
    export_capture(repository, manifest, target / "set")
    image = target / "set" / "alpha-vda.qcow2"
    image.rename(target / "outside")
    image.symlink_to(target / "outside")
    with pytest.raises(errors.ImageSetDamagedError, match="plain file"):
        from_set(target / "set")


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    path = tmp_path / "alpha.xml"
    path.write_text(TESTED)
    return path


@pytest.mark.parametrize("image_format", ["qcow2", "raw", "vmdk", "vdi", "vhdx"])
def test_images_from_elsewhere(repository: Repository, xml: Path, target: Path, image_format: str) -> None:
    disk = disk_bytes(4 << 20, (0, CHUNK), (2 << 20, 512))
    (target / "plain").write_bytes(disk)
    run("qemu-img", "convert", "-f", "raw", "-O", image_format, target / "plain", target / "image")
    wanted = from_images(xml, [f"vda={target}/image"], "host-a.example", image_format=image_format, tags=("moved",))
    report = import_capture(repository, wanted)
    found = repository.manifest("latest")
    assert found.capture_id == report.capture_id
    assert (found.guests[0].name, found.guests[0].guest_uuid, found.tags) == ("alpha", UUID, ("moved",))
    assert found.imported is not None
    assert found.imported.source == "images"
    restore_capture(repository, found, target / "back", image_format=ImageFormat.RAW)
    assert (target / "back" / "alpha-vda.raw").read_bytes() == disk


def test_an_image_that_names_another_file_is_refused(repository: Repository, xml: Path, target: Path) -> None:
    secret = target / "secret"
    secret.write_bytes(noise(CHUNK))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, target / "over")
    (target / "below").mkdir()
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={target}/below/data", target / "outside", "1M")
    (target / "flat.vmdk").write_text(
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 512 FLAT "{target}/below/data" 0\n'
    )
    (target / "below" / "data").write_bytes(bytes(CHUNK))
    for name in ("over", "outside", "flat.vmdk"):
        with pytest.raises(errors.ImageUnfitError, match="stand alone"):
            from_images(xml, [f"vda={target / name}"], "host-a.example")


@pytest.mark.parametrize("disks", [[], ["vda"], ["vdz=IMAGE"], ["vda=IMAGE", "vda=IMAGE"], ["vda=MISSING"]])
def test_disks_are_checked(xml: Path, target: Path, disks: list[str]) -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2", target / "image", "1M")
    named = [one.replace("IMAGE", str(target / "image")) for one in disks]
    with pytest.raises(errors.ExchangeError):
        from_images(xml, named, "host-a.example")


@pytest.mark.parametrize(
    "text", ["", "<domain/>", "<domain><name>a</name><uuid>x</uuid></domain>", "<!DOCTYPE a><domain/>"]
)
def test_xml_is_checked(xml: Path, target: Path, text: str) -> None:
    xml.write_text(text)
    run("qemu-img", "create", "-q", "-f", "qcow2", target / "image", "1M")
    with pytest.raises(errors.ImageUnfitError, match="domain XML"):
        from_images(xml, [f"vda={target}/image"], "host-a.example")


app = typer.Typer()
app.command("export")(export)
app.command("import")(import_)
app.add_typer(captures, name="captures")


def test_as_commands(root: Path, target: Path) -> None:
    sealed(Repository.init(root, chunk_bytes=CHUNK))

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, words, catch_exceptions=False, env={"FREEZEFRAME_REPOSITORY": str(root)})
        assert result.exit_code == 0, result.stderr
        return result.stdout

    report = json.loads(said("export", "latest", "--to", str(target / "set"), "--json"))
    assert report["capture_id"] == CAPTURE
    assert "exported to" in said("export", "latest", "--to", str(target / "again"))
    report = json.loads(said("import", str(target / "set"), "--guest", "alpha", "--json"))
    assert [disk["target"] for disk in report["disks"]] == ["vda", "vdb"]
    assert "Imported as capture" in said("import", str(target / "again"))
    assert f"from an export of {CAPTURE}, which called itself guest" in said("captures", "show", "latest")
    with pytest.raises(FreezeframeError):
        said("import", str(target / "set"), "--guest", "gamma")
    for wrong in (["import"], ["import", str(target / "set"), "--xml", "x"], ["import", "--xml", "x", "--guest", "a"]):
        assert CliRunner().invoke(app, wrong).exit_code == 2


def test_an_import_that_is_told_to_end_leaves_no_session_open(
    root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing that is condemned could be deleted for a week."""
    repository = Repository.init(root, chunk_bytes=CHUNK)
    export_capture(repository, sealed(repository), target / "set")
    before = {one.session_id for one in repository.sessions.all()}
    monkeypatch.setattr("workers.exchange.imports.read_image", lambda *_: signal.raise_signal(signal.SIGTERM))
    words = ["import", str(target / "set"), "--repository", str(root)]
    given = signal.signal(signal.SIGTERM, lambda *_: None)  # or a failure of this test would end all tests
    try:
        assert CliRunner().invoke(app, words).exit_code == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, given)
    (session,) = (one for one in repository.sessions.all() if one.session_id not in before)
    assert session.state is SessionState.FAILED


@BOTH
def test_an_image_of_no_bytes_is_refused_by_name(target: Path, image_format: ImageFormat) -> None:
    target.mkdir(exist_ok=True)
    xml, image = target / "alpha.xml", target / "empty"
    xml.write_text(TESTED)
    run("qemu-img", "create", "-q", "-f", image_format.value, image, "0")
    with pytest.raises(errors.ImageUnfitError, match=r"empty is empty: a disk of 0 bytes"):
        from_images(xml, [f"vda={image}"], "host-a.example", image_format=image_format.value)
