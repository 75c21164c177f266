"""Guests of names that programs get wrong are captured, held and read like any other (case I5)."""

from __future__ import annotations

import pytest

from ops.lab import Lab, blank
from ops.system import System
from workers.qemu_process import SOCKET_PATH_BYTES

from .command import Command
from .inventory import one_more_guest
from .traces import traces

ODD = 'ü"q" a\\b,c=数据库@:x'
#: 45 bytes, of which libvirt's directory has all: no socket in it can be named by a capture's id. Nor is there room for an
#: agent's channel of libvirt 9, so that libvirt starts such a guest without an agent only.
LONG = "数据库服务器生产环境主节点一号机"


@pytest.mark.case("I5")
def test_guests_of_odd_and_of_long_names_are_captured_together(command: Command, lab: Lab, system: System) -> None:
    with (
        one_more_guest(system, lab, "host-a", ODD, blank(1, 64)),
        one_more_guest(system, lab, "host-a", LONG, blank(1, 64), agent=False) as long,
    ):
        directory = f"/var/lib/libvirt/qemu/domain-{long.domain.ID()}-{LONG}"
        assert (long.host.root / directory[1:]).is_dir()
        assert len(f"{directory}/01KAAAAAAAAAAAAAAAAAAAAAAA.sock".encode()) > SOCKET_PATH_BYTES
        outcome = command("capture", ODD, LONG, "--guest-hold", f"{LONG}:pause")
        assert outcome.code == 0, outcome.stderr
        assert outcome.answer["consistency"] == "group"
        assert traces(system) == []
