"""Speaking to an agent past libvirt: what is older is passed over, silence and lies are told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from workers.guard.agent_line import AgentLine, AgentLineError, is_gone, thaw
from workers.guard.fake_agent import FakeAgent


@contextmanager
def agent(path: Path, *, lies: int = 0, stale: bytes = b"") -> Iterator[FakeAgent]:
    one = FakeAgent(path, lies=lies, stale=stale)
    yield one
    one.end()


def test_a_frozen_guest_is_thawed(tmp_path: Path) -> None:
    with agent(tmp_path / "agent") as one:
        for _ in range(3):  # the guard looks again for a while
            thaw(tmp_path / "agent", 20.0)
        assert one.status == "thawed"
        assert one.thaws == 1  # each calls the guest's freeze hooks


def test_answers_to_somebody_before_us_are_passed_over(tmp_path: Path) -> None:
    stale = b'"half of a line\n{"return": {}}\n{"return": 7}\n'
    with agent(tmp_path / "agent", stale=stale) as one, AgentLine(tmp_path / "agent", 20.0) as line:
        assert line.ask("guest-fsfreeze-status") == one.status


def test_a_thaw_that_was_not_done_is_told(tmp_path: Path) -> None:
    with agent(tmp_path / "agent", lies=1), pytest.raises(AgentLineError, match="says that its guest is frozen"):
        thaw(tmp_path / "agent", 20.0)


def test_what_the_agent_refuses_is_told(tmp_path: Path) -> None:
    with (
        agent(tmp_path / "agent"),
        AgentLine(tmp_path / "agent", 20.0) as line,
        pytest.raises(AgentLineError, match="refused guest-nonsense: not known"),
    ):
        line.ask("guest-nonsense")


def test_an_agent_that_does_not_answer_is_not_waited_for_longer_than_agreed(tmp_path: Path) -> None:
    """Libvirt has the socket: QEMU takes our connection when that one ends, and until then says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(4)
        with pytest.raises(AgentLineError, match="does not answer"):
            thaw(tmp_path / "agent", 0.2)
        assert not is_gone(tmp_path / "agent")


def test_a_qemu_that_is_gone_listens_to_nobody(tmp_path: Path) -> None:
    assert is_gone(tmp_path / "agent")
    with agent(tmp_path / "agent"):
        assert not is_gone(tmp_path / "agent")
    assert is_gone(tmp_path / "agent")  # its socket is still there


def test_a_qemu_at_which_others_queue_is_not_gone(tmp_path: Path) -> None:
    """The kernel refuses one more, as if nobody were there: a guest that is taken for gone is not thawed."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(1)
        for _ in range(2):
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.connect(str(tmp_path / "agent"))
        assert not is_gone(tmp_path / "agent")


def test_an_agent_that_hangs_up_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(1)

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises((AgentLineError, ConnectionError)):
            thaw(tmp_path / "agent", 20.0)
        thread.join()
