"""A host as Debian ships it: QEMU as its own user, and two guests whose UUIDs begin alike."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.lab import Lab, blank
from ops.lab.guest import Guest
from ops.lab.profile import QEMU_USER
from ops.system import System

from .command import Command
from .inventory import one_more_guest

#: As hand-numbered guests have them, and guests that one provisioning run gave UUIDs of version 7.
ALIKE = {name: f"0198c0de-0000-7000-8000-00000000000{digit}" for digit, name in enumerate(("one", "two"), 1)}
REFUSED = 3


def marker(name: str) -> bytes:
    return f"this is the disk of guest {name} and of no other".encode()


@pytest.fixture(scope="module")
def twins(lab: Lab, system: System) -> Iterator[dict[str, Guest]]:
    """Two guests of one host with disks of one size; each has its name on its disk."""
    with ExitStack() as stack:
        made = {
            name: stack.enter_context(one_more_guest(system, lab, "host-b", name, blank(1, 64), uuid=uuid))
            for name, uuid in ALIKE.items()
        }
        for name, guest in made.items():
            guest.write_file("/mnt/vda/who", marker(name))
            guest.shell("sync")
        yield made


@pytest.mark.case("I1")
def test_two_guests_whose_uuids_begin_alike_keep_their_own_bytes(
    twins: dict[str, Guest], command: Command, tmp_path: Path
) -> None:
    captured = command("capture", *twins)
    assert captured.code == 0, captured.stderr
    assert captured.answer["consistency"] == "group"
    restored = command("restore", captured.answer["capture_id"], "--to", str(tmp_path), "--format", "raw")
    assert restored.code == 0, restored.stderr
    for name in twins:
        found = (tmp_path / f"{name}-vda.raw").read_bytes()
        assert [other for other in twins if marker(other) in found] == [name]


@pytest.mark.case("G1")
def test_the_labs_guests_are_no_friendlier_than_a_stock_hosts(lab: Lab) -> None:
    uid = pwd.getpwnam(QEMU_USER).pw_uid
    for guest in lab.guests.values():
        pid = int((guest.host.root / f"run/libvirt/qemu/{guest.name}.pid").read_text())
        user = guest.host.run(["stat", "--format=%u", f"/proc/{pid}"]).stdout
        mounts = guest.host.run(["readlink", f"/proc/{pid}/ns/mnt", "/proc/1/ns/mnt"]).stdout.split()
        assert int(user) == uid
        assert len(set(mounts)) == 2
        assert guest.image("vda").stat().st_uid == uid  # libvirt has given it away, from root


@pytest.mark.case("G1")
def test_scratch_that_qemus_user_cannot_reach_is_refused_in_prepare(system: System, lab: Lab, command: Command) -> None:
    """With the directory's name and the command that opens it, and before any guest is held."""
    scratch = system.directory / "host-b" / "scratch"
    mode = scratch.stat().st_mode & 0o7777
    scratch.chmod(0o700)
    try:
        refused = command("capture", "gamma")
    finally:
        scratch.chmod(mode)
    assert refused.code == REFUSED
    assert f"Permission denied at {scratch}" in refused.error["message"]
    assert f"chmod o+x {scratch}" in refused.error["advice"]
    assert command("capture", "gamma").code == 0
