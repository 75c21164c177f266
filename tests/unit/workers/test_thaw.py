"""The red button works on a host where one QEMU hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import libvirt_qemu
import pytest

from workers.commands import thaw
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.fake_held_guest import HeldFake, agent_command, held_fake


class HangingResume(HeldFake):
    """Its QEMU does not answer the resume."""

    may_end = threading.Event()

    def resume(self) -> None:
        self.may_end.wait()


@pytest.fixture
def hanging() -> Iterator[HangingResume]:
    one = held_fake(1)
    made = HangingResume(one.live_xml, uuid=one.uuid, label=one.label)
    yield made
    made.may_end.set()


@pytest.mark.case("G4")
def test_a_guest_that_hangs_keeps_no_other_held(hanging: HangingResume, monkeypatch: pytest.MonkeyPatch) -> None:
    other = held_fake(2)
    fakes: dict[str, HeldFake] = {hanging.uuid: hanging, other.uuid: other}
    for fake in fakes.values():
        fake.suspend()
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent_command)
    monkeypatch.setattr(Hypervisor, "domain", lambda _, uuid: fakes[uuid].domain())
    monkeypatch.setattr(thaw, "PATIENCE_S", 1.0)
    found = thaw._let_go_all(Hypervisor("test:///default"), [fake.domain() for fake in fakes.values()], 1)
    assert not other.paused
    assert [one.guest for one in found if one.problem] == [hanging.label]
    assert "does not answer" in str(found[0].problem)
