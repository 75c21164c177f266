"""Identities of a guest's disks: read within a bound, and unknown with the reason where they cannot be."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from freezeframe.contract.identity import DiskIdentity, Layer
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.identity import read
from workers.identity.data_file import data_file_of
from workers.identity.read import Unknown, read_identities


class Guest:
    """A guest as libvirt shows it."""

    name = "alpha"

    def __init__(self, **sources: str) -> None:
        self._sources = sources
        self.volumes: dict[tuple[str, str], str] = {}

    def live_xml(self) -> str:
        disks = "".join(
            f"<disk type='{'volume' if 'pool=' in source else 'file'}'><driver type='qcow2'/><source {source}/>"
            f"<target dev='{target}'/></disk>"
            for target, source in self._sources.items()
        )
        return f"<domain><devices>{disks}</devices></domain>"

    def volume_path(self, pool: str, volume: str) -> str:
        if (pool, volume) not in self.volumes:
            raise HypervisorError(f"Storage pool {pool} is not here.")
        return self.volumes[pool, volume]


def identities(guest: Guest, *targets: str, patience_s: float = 10.0) -> dict[str, DiskIdentity | Unknown]:
    return read_identities(cast("Domain", guest), list(targets), patience_s)


def image(path: Path, *options: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, "1M"], check=True)
    return path


def known(found: DiskIdentity | Unknown) -> DiskIdentity:
    assert isinstance(found, DiskIdentity), found
    return found


def test_each_disk_is_what_it_is_and_one_that_cannot_be_read_hinders_no_other(tmp_path: Path) -> None:
    path = image(tmp_path / "a")
    found = identities(Guest(vda=f"file='{path}'", vdb=f"file='{tmp_path}/gone'"), "vda", "vdb", "vdc")
    assert known(found["vda"]).active.place == str(path)
    assert found["vdb"] == Unknown(f"{tmp_path}/gone: No such file or directory")
    assert found["vdc"] == Unknown("its definition names no source")


def test_a_data_file_that_only_the_image_names_is_part_of_the_disk(tmp_path: Path) -> None:
    data = tmp_path / "a.raw"
    path = image(tmp_path / "a", "-o", f"data_file={data}")
    assert data_file_of(str(path)) == str(data)
    before = known(identities(Guest(vda=f"file='{path}'"), "vda")["vda"])
    assert before.data_file is not None
    assert before.data_file.place == str(data)
    data.rename(tmp_path / "old")
    data.write_bytes((tmp_path / "old").read_bytes())
    assert known(identities(Guest(vda=f"file='{path}'"), "vda")["vda"]) != before


def test_a_data_file_is_named_relative_to_its_image(tmp_path: Path) -> None:
    path = image(tmp_path / "a", "-o", f"data_file={tmp_path}/a.raw")
    subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", "data_file=a.raw", path], check=True)
    assert data_file_of(str(path)) == str(tmp_path / "a.raw")


def test_an_image_with_its_data_in_itself_has_no_data_file(tmp_path: Path) -> None:
    assert data_file_of(str(image(tmp_path / "a"))) is None
    assert data_file_of(str(image(tmp_path / "old", "-o", "compat=0.10"))) is None
    (tmp_path / "raw").write_bytes(b"")
    assert data_file_of(str(tmp_path / "raw")) is None


def test_a_volume_is_the_file_that_its_pool_has(tmp_path: Path) -> None:
    guest = Guest(vda="pool='default' volume='a'")
    assert identities(guest, "vda")["vda"] == Unknown("Storage pool default is not here.")
    guest.volumes["default", "a"] = str(image(tmp_path / "a"))
    assert known(identities(guest, "vda")["vda"]).active.place == str(tmp_path / "a")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Storage that answers nothing until the event is set."""
    back = threading.Event()

    def wait(path: str, **_: Any) -> Layer:
        back.wait()
        return Layer(kind="file", place=path, facts={})

    monkeypatch.setattr(read, "layer_of", wait)
    yield back
    back.set()


@pytest.mark.usefixtures("away")
def test_storage_that_is_away_costs_a_bound_and_the_identity(tmp_path: Path) -> None:
    found = identities(Guest(vda=f"file='{image(tmp_path / 'a')}'"), "vda", patience_s=0.05)["vda"]
    assert isinstance(found, Unknown)
    assert "disk vda of guest alpha" in found.why
    assert "has not answered" in found.why
