"""A disk that cannot record its changes is read in full without a checkpoint: QEMU would refuse the begin (G2)."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from workers.fitness import untracked_reason
from workers.hypervisor.disk import DomainDisk
from workers.hypervisor.image import ImageHeader, header_of, parse_header

QCOW2 = DomainDisk("vda", "disk", "file", "/images/a b.qcow2", "qcow2", transient=False)
V3 = ImageHeader(qcow2_version=3)

pytestmark = pytest.mark.case("G2")


def test_a_qcow2_of_version_3_records_its_changes_with_a_data_file_too() -> None:
    assert untracked_reason(QCOW2, V3) is None
    assert untracked_reason(QCOW2, replace(V3, data_file=True)) is None


@pytest.mark.parametrize(
    ("disk", "header", "said"),
    [
        (replace(QCOW2, source_format="raw"), None, "a raw disk keeps no record of its changes"),
        (replace(QCOW2, source_format="qed"), None, "a qed disk keeps no record of its changes"),
        (QCOW2, ImageHeader(qcow2_version=2), "of version 2"),
        (replace(QCOW2, readonly=True), V3, "read-only"),
        (QCOW2, None, "cannot be read from this host"),
        (QCOW2, ImageHeader(qcow2_version=None), "is no qcow2"),
    ],
)
def test_every_other_disk_does_not_and_the_reason_is_said(
    disk: DomainDisk, header: ImageHeader | None, said: str
) -> None:
    assert said in (untracked_reason(disk, header) or "")


def test_the_command_that_is_advised_for_version_2_mends_it(tmp_path: Path) -> None:
    disk = replace(QCOW2, source=os.fspath(tmp_path / "an old image.qcow2"))
    create(disk, "compat=0.10")
    reason = untracked_reason(disk, header_of(disk))
    assert reason is not None
    subprocess.run(reason.split("`")[1], shell=True, check=True)  # noqa: S602  as an administrator pastes it
    assert untracked_reason(disk, header_of(disk)) is None


def create(disk: DomainDisk, options: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, disk.source, "1M"], check=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("compat=0.10", ImageHeader(2)),
        ("compat=1.1", ImageHeader(3)),
        ("compat=1.1,data_file={}/data", ImageHeader(3, data_file=True)),
        ("compat=1.1,data_file={}/data,data_file_raw=on", ImageHeader(3, data_file=True)),
    ],
)
def test_an_image_s_header_is_read_as_qemu_wrote_it(tmp_path: Path, options: str, expected: ImageHeader) -> None:
    disk = replace(QCOW2, source=os.fspath(tmp_path / "image"))
    create(disk, options.format(tmp_path))
    assert header_of(disk) == expected


def test_a_header_that_cannot_be_read_is_unknown_and_not_a_guess(tmp_path: Path) -> None:
    assert header_of(replace(QCOW2, source=os.fspath(tmp_path / "gone"))) is None
    assert header_of(replace(QCOW2, source_type="network", source="nbd:export")) is None


def test_an_image_that_only_its_owner_may_read_is_read_as_that_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS with root_squash, where root is nobody; here the first look is refused instead."""

    def refuse(*_: object, **_more: object) -> None:
        raise PermissionError

    disk = replace(QCOW2, source=os.fspath(tmp_path / "image"))
    create(disk, "compat=1.1")
    monkeypatch.setattr(Path, "open", refuse)
    assert header_of(disk) == V3
    (tmp_path / "image").unlink()
    assert header_of(disk) is None


@pytest.mark.parametrize("data", [b"", b"QFI", b"QFI\xfb", b"\x7fELF" + bytes(100)])
def test_what_is_no_qcow2_header_is_none(data: bytes) -> None:
    assert parse_header(data) == ImageHeader(qcow2_version=None)


def test_a_version_3_header_that_was_cut_off_has_no_features() -> None:
    assert parse_header(b"QFI\xfb" + (3).to_bytes(4, "big")) == V3
