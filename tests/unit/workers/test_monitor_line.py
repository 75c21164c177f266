"""Speaking to QEMU's monitor past libvirt: a pause is taken back, and nothing else that keeps a guest from running."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("odd", [7, [], {}, {"status": []}, {"status": None}, None])
def test_an_answer_that_names_no_status_is_not_called_running(tmp_path: Path, odd: object) -> None:
    class Odd(FakeMonitor):
        def _answer(self, command: str, *, is_ready: bool) -> dict[str, Any]:
            return {"return": odd} if command == "query-status" else super()._answer(command, is_ready=is_ready)

    one = Odd(tmp_path / "monitor")
    with pytest.raises(AgentLineError, match="says that its guest is None"):
        resume(tmp_path / "monitor", 20.0)
    one.end()


def test_a_monitor_that_libvirt_has_gives_no_greeting_and_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "monitor"))
        listener.listen(4)
        with pytest.raises(AgentLineError, match=r"monitor .* does not answer"):
            resume(tmp_path / "monitor", 0.2)


def test_a_qemu_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        resume(tmp_path / "monitor", 1.0)


class Libvirtd:
    """The one client of a real QEMU's monitor, until it dies."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")
        assert b"QMP" in self._lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str) -> object:
        self._socket.sendall(json.dumps({"execute": command}).encode())
        while "return" not in (answer := json.loads(self._lines.readline())):
            assert "event" in answer
        return answer["return"]

    def die(self) -> None:
        self._lines.close()
        self._socket.close()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Path]:
    """A real QEMU without a machine, with its monitor as libvirt sets it up."""
    path = tmp_path / "monitor.sock"
    command = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"]
    monitor = ["-chardev", f"socket,id=m,path={path},server=on,wait=off", "-mon", "chardev=m,mode=control"]
    with subprocess.Popen([*command, *monitor]) as process:
        while not _listens(path):
            time.sleep(0.01)
        yield path
        process.kill()


def _resumed(path: Path) -> bool:
    """As the guard tries it, again and again: first QEMU takes notice of those who waited in vain."""
    try:
        resume(path, 20.0)
    except (AgentLineError, OSError):
        return False
    return True


def _listens(path: Path) -> bool:
    try:
        Libvirtd(path).die()
    except OSError:
        return False
    return True


def test_a_real_qemu_is_resumed_when_its_libvirtd_has_died_and_is_found_running_by_the_next_one(qemu: Path) -> None:
    libvirtd = Libvirtd(qemu)
    libvirtd.ask("stop")
    for _ in range(3):  # it lives: no greeting, and what waited in vain must keep nobody from the monitor later
        with pytest.raises((AgentLineError, BlockingIOError)):  # the second, when two wait already
            resume(qemu, 0.1)
    libvirtd.die()
    while not _resumed(qemu):
        time.sleep(0.01)
    again = Libvirtd(qemu)
    assert again.ask("query-status") == {"running": True, "singlestep": False, "status": "running"}
    again.die()
