"""A guest whose QEMU runs although libvirt calls it shut off is shown as unmanaged, with its process."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest

from workers import inventory
from workers.host import Host
from workers.hypervisor.domain import state_text
from workers.hypervisor.listing import GuestState
from workers.unmanaged import running_qemus

LOST = "00000000-0000-4000-8000-00000000000a"
OFF = "00000000-0000-4000-8000-00000000000b"
RUNS = "00000000-0000-4000-8000-00000000000c"


def process(proc: Path, pid: int, *words: str) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))


def test_qemus_are_found_by_the_uuid_that_they_were_started_with(tmp_path: Path) -> None:
    process(tmp_path, 10, "/usr/bin/qemu-system-x86_64", "-name", "guest=a", "-uuid", LOST, "-display", "none")
    process(tmp_path, 11, "virsh", "-uuid", OFF)
    process(tmp_path, 12)
    (tmp_path / "13").mkdir()  # it ended meanwhile
    (tmp_path / "self").mkdir()
    assert running_qemus(tmp_path) == {LOST: 10}


@pytest.mark.case("G9")
@pytest.mark.parametrize("emulator", ["/usr/bin/kvm", "/usr/bin/kvm-spice", "/usr/libexec/qemu-kvm", "/opt/emulator"])
def test_a_qemu_is_known_by_its_arguments_whatever_its_path_is(tmp_path: Path, emulator: str) -> None:
    process(tmp_path, 10, emulator, "-name", "guest=a,debug-threads=on", "-S", "-uuid", LOST)
    process(tmp_path, 11, "/usr/bin/mkfs", "-uuid", OFF, "-name", "a")
    process(tmp_path, 12, emulator, "-name", "guest=b")
    assert running_qemus(tmp_path) == {LOST: 10}


@pytest.mark.case("G9")
def test_a_guest_that_libvirt_has_lost_is_published_as_unmanaged(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [
        GuestState(LOST, "lost", "shut off"),
        GuestState(OFF, "off", "shut off"),
        GuestState(RUNS, "runs", "running"),
    ]
    monkeypatch.setattr(inventory, "guest_states", lambda _: states)
    monkeypatch.setattr(inventory, "running_qemus", lambda: {LOST: 77, RUNS: 78})
    found = {guest.name: guest for guest in inventory.entry_of(host).guests}
    assert {name: guest.state for name, guest in found.items()} == {
        "lost": "unmanaged",
        "off": "shut off",
        "runs": "running",
    }
    assert found["lost"].trouble is not None
    assert "process 77" in found["lost"].trouble
    assert found["runs"].trouble is None


def test_libvirt_s_word_for_off_is_the_one_that_is_looked_for() -> None:
    assert state_text(libvirt.VIR_DOMAIN_SHUTOFF) == inventory._OFF
