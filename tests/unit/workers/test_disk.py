"""Which disks can be captured; no disk with data of the guest's own is ever left out without the caller's word."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.errors import EXIT_REFUSED
from freezeframe.naming import NamedGuest
from workers.fitness import choose_disks, plain_text_warnings
from workers.hypervisor.backup import BackupDisk, backup_xml
from workers.hypervisor.checkpoint import checkpoint_name, checkpoint_xml
from workers.hypervisor.disk import disks_of, parse
from workers.refusal import DiskEncryptedError, DiskNotCapturableError, NoDiskError

DB1 = NamedGuest("db1", "00000000-0000-4000-8000-00000000000d")
OLD_DB = NamedGuest("old db", "00000000-0000-4000-8000-00000000000e")

DOMAIN = """
<domain type='kvm'>
  <name>db1</name>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/a'/><target dev='vda'/></disk>
    <disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg/b'/><target dev='vdb'/></disk>
    <disk type='network' device='disk'><driver type='raw'/><source protocol='rbd' name='pool/c'/><target dev='vdc'/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>
    <disk type='file' device='floppy'><source file='/images/f'/><target dev='fda'/></disk>
    {}
  </devices>
</domain>
"""
TRANSIENT = "<disk type='file' device='disk'><source file='/images/t'/><target dev='vdt'/><transient/></disk>"
VHOST_USER = "<disk type='vhostuser' device='disk'><source type='unix' path='/run/v.sock'/><target dev='vdu'/></disk>"
SHAREABLE = (
    "<disk type='file' device='disk'><driver type='raw'/><source file='/s'/><target dev='vds'/><shareable/></disk>"
)
PASSED_THROUGH = "<disk type='block' device='lun'><source dev='/dev/sdx'/><target dev='sdl'/></disk>"


def test_disks_are_taken_and_drives_left_out_with_a_reason() -> None:
    taken, skipped = choose_disks(DB1, disks_of(DOMAIN.format("")), [])
    assert [(disk.target, disk.source, disk.source_format) for disk in taken] == [
        ("vda", "/images/a", "qcow2"),
        ("vdb", "/dev/vg/b", "raw"),
        ("vdc", "rbd:pool/c", "raw"),
    ]
    assert {disk.target: disk.reason for disk in skipped} == {
        "sda": "it is a CD-ROM drive, whose medium is not the guest's own",
        "fda": "it is a floppy drive, whose medium is not the guest's own",
    }


@pytest.mark.parametrize(
    ("disk", "target", "reason"),
    [
        (TRANSIENT, "vdt", "transient"),
        (VHOST_USER, "vdu", "vhostuser"),
        (PASSED_THROUGH, "sdl", "passed through"),
        pytest.param(SHAREABLE, "vds", "shareable", marks=pytest.mark.case("P2")),
    ],
)
def test_a_disk_with_data_that_cannot_be_captured_is_refused_unless_the_caller_leaves_it_out(
    disk: str, target: str, reason: str
) -> None:
    disks = disks_of(DOMAIN.format(disk))
    with pytest.raises(DiskNotCapturableError, match=f"Disk {target} of guest db1.*{reason}") as caught:
        choose_disks(DB1, disks, [])
    assert f"--skip-disk {DB1.uuid}:{target}" in caught.value.hint
    assert caught.value.exit_code == EXIT_REFUSED
    _, skipped = choose_disks(DB1, disks, [target])
    assert target in {one.target for one in skipped}


@pytest.mark.case("P3")
@pytest.mark.parametrize(
    "encrypted",
    [
        "<source file='/l'><encryption format='luks'><secret type='passphrase' uuid='u'/></encryption></source>",
        "<source file='/l'/><encryption format='luks'/>",  # as older definitions have it
        "<source file='/l'/><backingStore type='file'><source file='/b'><encryption format='luks'/></source></backingStore>",
    ],
)
def test_an_encrypted_disk_is_refused_unless_its_plain_text_is_agreed_to(encrypted: str) -> None:
    disk = f"<disk type='file' device='disk'><driver type='raw'/>{encrypted}<target dev='vde'/></disk>"
    disks = disks_of(DOMAIN.format(disk))
    with pytest.raises(DiskEncryptedError, match=r"Disk vde of guest old db is encrypted \(luks\)") as caught:
        choose_disks(OLD_DB, disks, [])
    assert caught.value.exit_code == EXIT_REFUSED
    choice = f"{OLD_DB.uuid}:vde"
    assert f"--decrypt-disk {choice}" in caught.value.hint
    assert f"--skip-disk {choice}" in caught.value.hint
    taken, _ = choose_disks(OLD_DB, disks, [], ["vde"])
    assert "vde" in {one.target for one in taken}
    (warning,) = plain_text_warnings(OLD_DB, taken, repository_encrypted=False)
    assert "Disk vde of guest old db" in warning
    assert warning.endswith("as agreed.")
    _, skipped = choose_disks(OLD_DB, disks, ["vde"])
    assert "vde" in {one.target for one in skipped}


@pytest.mark.case("P3")
def test_into_an_encrypted_repository_an_encrypted_disk_needs_no_agreement() -> None:
    source = "<source file='/l'><encryption format='luks'/></source>"
    disk = f"<disk type='file' device='disk'><driver type='raw'/>{source}<target dev='vde'/></disk>"
    taken, _ = choose_disks(DB1, disks_of(DOMAIN.format(disk)), [], repository_encrypted=True)
    assert "vde" in {one.target for one in taken}
    (warning,) = plain_text_warnings(DB1, taken, repository_encrypted=True)
    assert warning.endswith("into a repository that is encrypted itself.")


@pytest.mark.case("P3")
def test_a_disk_that_is_not_there_cannot_be_decrypted() -> None:
    with pytest.raises(DiskNotCapturableError, match="no disk vdz to capture decrypted"):
        choose_disks(DB1, disks_of(DOMAIN.format("")), [], ["vdz"])


def test_advice_to_leave_a_disk_out_can_be_pasted_whatever_the_guest_is_called() -> None:
    with pytest.raises(DiskNotCapturableError) as caught:
        choose_disks(OLD_DB, disks_of(DOMAIN.format(TRANSIENT)), [])
    assert f"--skip-disk {OLD_DB.uuid}:vdt " in caught.value.hint


def test_a_guest_without_any_disk_to_capture_is_refused() -> None:
    with pytest.raises(NoDiskError, match="db1"):
        choose_disks(DB1, disks_of(DOMAIN.format("")), ["vda", "vdb", "vdc"])


@pytest.mark.parametrize(
    "xml",
    [
        "<domain>",
        "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>",
        "<!DOCTYPE d [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]><domain>&b;</domain>",
    ],
)
def test_xml_that_libvirt_would_never_write_is_refused(xml: str) -> None:
    with pytest.raises(ValueError, match=r"not well-formed|document type"):
        parse(xml)


def test_every_disk_is_listed_in_a_backup_and_in_a_checkpoint() -> None:
    """Libvirt leaves out of a backup, and takes into a checkpoint, what is not listed; neither may happen unsaid."""
    xml = backup_xml(
        Path("/run/x&y.sock"),
        [BackupDisk("vda", Path("/s/a"), "cp0"), BackupDisk("vdb", Path("/s/b"))],
        ["sda"],
    )
    root = parse(xml)
    assert root.find("server").get("socket") == "/run/x&y.sock"  # type: ignore[union-attr]
    disks = {disk.get("name"): dict(disk.attrib) for disk in root.iterfind("disks/disk")}
    assert disks["vda"]["incremental"] == "cp0"
    assert disks["vda"]["exportbitmap"] == "changed-vda"
    assert disks["vdb"]["backupmode"] == "full"
    assert disks["sda"]["backup"] == "no"
    checkpoint = parse(checkpoint_xml("cp1", ["vda"], ["vdb", "sda"]))
    modes = {disk.get("name"): disk.get("checkpoint") for disk in checkpoint.iterfind("disks/disk")}
    assert modes == {"vda": "bitmap", "vdb": "no", "sda": "no"}


@pytest.mark.case("P3")
def test_only_an_encrypted_scratch_file_has_its_passphrase_named_in_the_backup() -> None:
    key = "00000000-0000-4000-8000-00000000000c"
    disks = [BackupDisk("vda", Path("/s/a")), BackupDisk("vdb", Path("/s/b"), secret=key)]
    root = parse(backup_xml(Path("/run/x.sock"), disks, []))
    plain, encrypted = root.iterfind("disks/disk/scratch")
    assert list(plain) == []
    (encryption,) = encrypted
    (secret,) = encryption
    assert (encryption.tag, encryption.get("format")) == ("encryption", "luks")
    assert (secret.get("type"), secret.get("uuid")) == ("passphrase", key)


@pytest.mark.case("I1")
def test_two_repositories_keep_two_lines_of_checkpoints_wherever_their_ids_differ() -> None:
    capture_id, one = "01KAAAAAAAAAAAAAAAAAAAAAAA", "12345678-1234-4000-8000-000000000000"
    others = [one[:at] + "f" + one[at + 1 :] for at, letter in enumerate(one) if letter != "-"]
    assert len({checkpoint_name(repository, capture_id) for repository in [one, *others]}) == 1 + len(others)
