"""A disk that QEMU decrypts: captured only as agreed, restored as the guest wrote it, and plain text in no scratch file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import libvirt
import pytest

from ops.lab import Lab, blank
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for
from ops.system import System
from ops.trial.truth import transfers_paused, wait_until_transferring
from workers.scratch.files import create_encrypted

from .command import Command
from .inventory import one_more_guest
from .muster import mustering, prepared

pytestmark = pytest.mark.case("P3")

REFUSED, PARTIAL = 3, 10
HOST = "host-b"
MIB = 1 << 20
KEY_ID = UUID("00000000-0000-4000-8000-00000000001c")
#: Each of them fills a MiB of the disk, over and over.
BEFORE, AFTER = b"as it was at the instant of the capture....\n", b"as the guest wrote it over while it was read\n"


def fill(guest: Guest, line: bytes) -> None:
    guest.shell(
        f"test -b /dev/vdb && yes '{line.decode().strip()}' | head -c {8 * MIB} | dd of=/dev/vdb bs=64k conv=fsync"
    )


def keep_own_passphrase(lab: Lab) -> None:
    """Give libvirt the passphrase of vault's own disk."""
    xml = f"<secret ephemeral='yes' private='yes'><uuid>{KEY_ID}</uuid><description>vault's own</description></secret>"
    lab.host(HOST).connection().secretDefineXML(xml).setValue(b"the disk's own passphrase")


@pytest.fixture(scope="module")
def vault(lab: Lab, system: System) -> Iterator[Guest]:
    """A guest whose vdb is encrypted by QEMU."""
    with one_more_guest(system, lab, HOST, "vault", blank(1, 64)) as guest:
        image = guest.folder / "secret.qcow2"
        create_encrypted(image, 16 * MIB, b"the disk's own passphrase").check_returncode()
        keep_own_passphrase(lab)
        encryption = f"<encryption format='luks'><secret type='passphrase' uuid='{KEY_ID}'/></encryption>"
        guest.domain.attachDeviceFlags(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source file='{image}'>{encryption}</source><target dev='vdb' bus='virtio'/></disk>",
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
        guest.shell(
            "echo 1 >/sys/bus/pci/rescan; for n in 1 2 3 4 5; do test -b /dev/vdb && exit; sleep 1; done; exit 1"
        )
        fill(guest, BEFORE)
        yield guest
        lab.host(HOST).connection().secretLookupByUUIDString(str(KEY_ID)).undefine()


def test_it_is_refused_unless_its_plain_text_is_agreed_to(command: Command, vault: Guest) -> None:
    outcome = command("capture", vault.name)
    assert (outcome.code, outcome.error["code"]) == (REFUSED, "disk-encrypted")
    assert f"--decrypt-disk {vault.uuid}:vdb" in outcome.error["advice"]


def test_what_the_guest_overwrites_meanwhile_is_plain_text_nowhere(
    system: System, command: Command, vault: Guest, tmp_path: Path
) -> None:
    with transfers_paused(system):
        capturing = command.begin("capture", vault.name, "--decrypt-disk", "vault:vdb", "--hold", "pause")
        wait_until_transferring(system.redis, capturing)
        fill(vault, AFTER)
        (scratch,) = (system.directory / HOST / "scratch").glob(f"*/{vault.uuid}.vdb.qcow2")
        copied = scratch.read_bytes()
        stored_bytes = scratch.stat().st_blocks * 512
    outcome = command.finish(capturing)
    assert outcome.code == 0, outcome.stderr
    assert stored_bytes > 8 * MIB  # what was overwritten is there
    assert BEFORE not in copied
    assert BEFORE not in (vault.folder / "secret.qcow2").read_bytes()  # and is not what a file shows of itself
    (warning,) = outcome.answer["warnings"]
    assert "Disk vdb of guest vault is encrypted (luks) and was captured decrypted, as agreed." in warning
    restored = command("restore", outcome.answer["capture_id"], "--to", str(tmp_path / "set"), "--format", "raw")
    assert restored.code == 0, restored.stderr
    (found,) = (tmp_path / "set").glob("**/*vdb*")
    assert found.read_bytes()[: 8 * MIB] == (BEFORE * (8 * MIB // len(BEFORE) + 1))[: 8 * MIB]


def test_a_keeper_of_passphrases_that_is_restarted_before_the_hold_costs_nothing(
    lab: Lab, system: System, command: Command, vault: Guest, tmp_path: Path
) -> None:
    """What libvirt had in its memory is lost with it; the scratch file is made anew, and QEMU's user can open it."""
    fill(vault, BEFORE)
    words = ("capture", "alpha", vault.name, "--decrypt-disk", "vault:vdb", "--hold", "pause")
    with prepared(system, lambda: command.begin(*words)) as capturing:
        before = scratch_of(system, vault)
        lab.host(HOST).restart_keeper()
    outcome = command.finish(capturing)
    keep_own_passphrase(lab)
    assert outcome.code == 0, outcome.stderr
    assert outcome.answer["consistency"] == "group"
    assert before == 1
    restored = command(
        *("restore", outcome.answer["capture_id"], "--guest", vault.name, "--disk", "vdb"),
        *("--to", str(tmp_path / "set"), "--format", "raw"),
    )
    assert restored.code == 0, restored.stderr
    (found,) = (tmp_path / "set").glob("**/*vdb*")
    assert found.read_bytes()[: 8 * MIB] == (BEFORE * (8 * MIB // len(BEFORE) + 1))[: 8 * MIB]


def test_a_keeper_of_passphrases_that_is_restarted_in_the_muster_is_told_as_that(
    lab: Lab, system: System, command: Command, vault: Guest
) -> None:
    """The guest runs again at once. Where libvirtd keeps them itself, its own end is seen first."""
    words = ("capture", "alpha", vault.name, "--decrypt-disk", "vault:vdb", "--hold", "pause", "--policy", "degrade")
    with mustering(system, lambda: command.begin(*words), waits=HOST) as capturing:
        lab.host(HOST).restart_keeper()
    outcome = command.finish(capturing)
    keep_own_passphrase(lab)
    assert outcome.code == PARTIAL, outcome.stderr
    (fault,) = outcome.answer["faults"]
    assert fault["guest"] == vault.name
    assert fault["code"] in {"passphrase-lost", "hypervisor-unreachable"}
    leases = system.directory / HOST / "state" / "leases"
    # the guard keeps one until no call of the connection that broke can be under way
    wait_for("the guard's lease to be retired", lambda: not any(leases.glob("*.json")), 90.0)


def scratch_of(system: System, guest: Guest) -> int:
    """Return how many scratch files the guest's encrypted disk has."""
    return len(list((system.directory / HOST / "scratch").glob(f"*/{guest.uuid}.vdb.qcow2")))
