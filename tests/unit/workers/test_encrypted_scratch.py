"""The scratch file of a disk that QEMU decrypts: encrypted itself, by a passphrase that only libvirt has."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from freezeframe.contract.result import PreparedDisk
from freezeframe.contract.words import CaptureKind
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError, HypervisorError
from workers.hypervisor.fake_guest import UUID, FakeGuest
from workers.hypervisor.fake_keeper import FakeKeeper, keeper_error
from workers.hypervisor.loan import Loan
from workers.journal import ClaimChange, ScratchChange
from workers.scratch.errors import ScratchSpaceError
from workers.scratch.files import make_files, scratch_secret
from workers.steps.undo import undo_capture

pytestmark = pytest.mark.case("P3")

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
MIB = 1 << 20


@pytest.fixture
def libvirtd(monkeypatch: pytest.MonkeyPatch) -> FakeKeeper:
    made = FakeKeeper()
    monkeypatch.setattr(Hypervisor, "lend", lambda _: Loan(made))
    return made


def make(host: Host, *, secret: str | None) -> Path:
    disk = PreparedDisk(
        target="vda",
        kind=CaptureKind.FULL,
        size_bytes=64 * MIB,
        source="/images/a",
        source_format="qcow2",
        scratch_secret=secret,
    )
    host.claims.take(UUID, CAPTURE)
    journal = host.journal.of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=UUID))
    make_files(host, journal, Domain(FakeGuest("")), [disk])
    return host.scratch_file(CAPTURE, UUID, "vda")


SECRET = scratch_secret(CAPTURE, UUID, "vda")


def test_it_opens_with_the_passphrase_that_libvirt_has_and_with_no_other(host: Host, libvirtd: FakeKeeper) -> None:
    path = make(host, secret=SECRET)
    assert json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path]))["encrypted"] is True
    assert opens(path, libvirtd.values[SECRET])
    assert not opens(path, b"another")


def test_a_worker_that_makes_many_keeps_no_pipe_open(host: Host, libvirtd: FakeKeeper) -> None:
    """It runs for months, and its passphrase is in that pipe."""
    open_before = set(Path("/proc/self/fd").iterdir())
    make(host, secret=SECRET)
    assert {path.name for path in Path("/proc/self/fd").iterdir()} <= {path.name for path in open_before}


def opens(path: Path, passphrase: bytes) -> bool:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(passphrase)
    image = f"driver=qcow2,encrypt.format=luks,encrypt.key-secret=key,file.filename={path}"
    command = ["qemu-io", "--object", f"secret,id=key,file=/dev/fd/{read}", "--image-opts", image, "-c", "read 0 512"]
    done = subprocess.run(command, pass_fds=[read], capture_output=True, check=False)
    os.close(read)
    return done.returncode == 0


def test_libvirt_keeps_it_in_memory_and_tells_it_to_nobody(host: Host, libvirtd: FakeKeeper) -> None:
    make(host, secret=SECRET)
    definition = etree.fromstring(libvirtd.definitions[SECRET])
    assert (definition.get("ephemeral"), definition.get("private")) == ("yes", "yes")
    description = definition.findtext("description") or ""
    assert all(word in description for word in ("freezeframe", "alpha", "vda", CAPTURE))


def test_the_passphrase_is_in_no_argument_and_no_file_of_ours(
    host: Host, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Sequence[str]] = []
    run = subprocess.run

    def watched(command: Sequence[str], **more: Any) -> Any:
        commands.append(command)
        return run(command, **more)

    monkeypatch.setattr(subprocess, "run", watched)
    make(host, secret=SECRET)
    passphrase = libvirtd.values[SECRET]
    assert len(passphrase) == 64
    assert commands
    assert passphrase.decode() not in " ".join(" ".join(command) for command in commands)
    for path in host.settings.state_dir.rglob("*"):
        assert not path.is_file() or passphrase not in path.read_bytes(), path


@pytest.mark.parametrize(("failures", "made"), [(1, True), (19, True), (20, False)])
def test_a_measurement_of_nothing_is_taken_again_and_not_for_ever(
    host: Host, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch, failures: int, *, made: bool
) -> None:
    tries: list[Sequence[str]] = []

    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        tries.append(command)
        if len(tries) <= failures:
            return subprocess.CompletedProcess(command, 1, "", "qemu-img: f: Unable to get accurate CPU usage")
        Path(command[-2]).touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    if made:
        assert make(host, secret=SECRET).exists()
    else:
        with pytest.raises(ScratchSpaceError, match="accurate CPU usage"):
            make(host, secret=SECRET)
    assert len(tries) == min(failures + 1, 20)


def test_another_failure_is_told_at_once(host: Host, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Sequence[str]] = []

    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        tries.append(command)
        return subprocess.CompletedProcess(command, 1, "", "qemu-img: f: No space left on device")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ScratchSpaceError, match="No space left"):
        make(host, secret=SECRET)
    assert len(tries) == 1


def test_a_line_and_a_result_without_a_passphrase_do_not_name_the_field(host: Host, libvirtd: FakeKeeper) -> None:
    """A version that knows no passphrases reads them; one with a passphrase it refuses, and leaves the guest to this one."""
    make(host, secret=None)
    disk = PreparedDisk(target="vda", kind=CaptureKind.FULL, size_bytes=1, source="/a", source_format="raw")
    (line,) = [one for one in host.journal.of(CAPTURE).changes() if isinstance(one, ScratchChange)]
    assert "secret" not in line.model_dump_json()
    assert "secret" not in disk.model_dump_json()
    for one in (line.model_copy(update={"secret": SECRET}), disk.model_copy(update={"scratch_secret": SECRET})):
        assert SECRET in one.model_dump_json()
        assert type(one).model_validate_json(one.model_dump_json()) == one


def test_each_file_has_a_passphrase_of_its_own(host: Host, libvirtd: FakeKeeper) -> None:
    ids = {scratch_secret(CAPTURE, UUID, target) for target in ("vda", "vdb")}
    ids |= {scratch_secret("01KBBBBBBBBBBBBBBBBBBBBBBB", UUID, "vda"), scratch_secret(CAPTURE, UUID[:-1] + "f", "vda")}
    assert len(ids) == 4
    make(host, secret=SECRET)
    first = libvirtd.values[SECRET]
    host.scratch_file(CAPTURE, UUID, "vda").unlink()
    make(host, secret=SECRET)
    assert libvirtd.values[SECRET] != first


def test_it_is_in_the_journal_before_libvirt_has_it(host: Host, libvirtd: FakeKeeper) -> None:
    libvirtd.refuses_value = True
    with pytest.raises(HypervisorError, match="Giving libvirt a passphrase"):
        make(host, secret=SECRET)
    changes = host.journal.of(CAPTURE).changes()
    assert [change.secret for change in changes if isinstance(change, ScratchChange)] == [SECRET]
    assert not host.scratch_file(CAPTURE, UUID, "vda").exists()  # a plain one is never made in its place


def test_a_disk_that_is_not_encrypted_has_no_passphrase(host: Host, libvirtd: FakeKeeper) -> None:
    path = make(host, secret=None)
    assert libvirtd.definitions == {}
    assert "encrypted" not in json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path]))


@pytest.mark.parametrize("lost", [False, True])
def test_undoing_the_capture_takes_it_from_libvirt_even_if_it_is_gone(
    host: Host, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    """A libvirtd that is started again has lost it; and the guest may be gone."""

    def gone(_: Hypervisor, guest_uuid: str) -> Domain:
        raise GuestGoneError(f"no guest {guest_uuid}")

    monkeypatch.setattr(Hypervisor, "domain", gone)
    path = make(host, secret=SECRET)
    if lost:
        libvirtd.definitions.clear()
    assert undo_capture(host, host.journal.of(CAPTURE), sealed=()) == []
    assert (libvirtd.definitions, path.exists()) == ({}, False)


def test_a_passphrase_that_cannot_be_taken_back_keeps_the_capture_open(
    host: Host, libvirtd: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Hypervisor, guest_uuid: str) -> Domain:
        raise GuestGoneError(f"no guest {guest_uuid}")

    monkeypatch.setattr(Hypervisor, "domain", gone)
    make(host, secret=SECRET)
    libvirtd.refusal = keeper_error(libvirt.VIR_ERR_INTERNAL_ERROR)
    assert undo_capture(host, host.journal.of(CAPTURE), sealed=())
    libvirtd.refusal = None
    assert undo_capture(host, host.journal.of(CAPTURE), sealed=()) == []
    assert libvirtd.definitions == {}
