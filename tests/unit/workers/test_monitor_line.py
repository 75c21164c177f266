"""Speaking to QEMU's monitor past libvirt: a pause is taken back, and nothing else that keeps a guest from running."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workers.guard.agent_line import AgentLineError
from workers.guard.fake_monitor import FakeMonitor
from workers.guard.monitor_line import resume

pytestmark = pytest.mark.case("G9")


@contextmanager
def monitor(path: Path, status: str = "paused", *, lies: int = 0) -> Iterator[FakeMonitor]:
    one = FakeMonitor(path, status, lies=lies)
    yield one
    one.end()


@pytest.mark.parametrize("status", ["paused", "running"])
def test_a_paused_guest_is_resumed_and_one_that_runs_stays_so(tmp_path: Path, status: str) -> None:
    with monitor(tmp_path / "monitor", status) as one:
        resume(tmp_path / "monitor", 20.0)
        assert one.status == "running"


@pytest.mark.parametrize("status", ["io-error", "inmigrate", "guest-panicked", "suspended"])
def test_what_stands_still_for_another_reason_is_left_alone(tmp_path: Path, status: str) -> None:
    with monitor(tmp_path / "monitor", status) as one:
        resume(tmp_path / "monitor", 20.0)
        assert one.status == status


def test_a_resume_that_was_not_done_is_told(tmp_path: Path) -> None:
    with monitor(tmp_path / "monitor", lies=1), pytest.raises(AgentLineError, match="says that its guest is paused"):
        resume(tmp_path / "monitor", 20.0)


def test_a_monitor_that_libvirt_has_gives_no_greeting_and_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "monitor"))
        listener.listen(4)
        with pytest.raises(AgentLineError, match=r"monitor .* does not answer"):
            resume(tmp_path / "monitor", 0.2)


def test_a_qemu_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        resume(tmp_path / "monitor", 1.0)
