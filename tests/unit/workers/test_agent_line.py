"""Speaking to an agent past libvirt: what is older is passed over, silence and lies are told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from workers.guard import agent_line
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
    """QEMU runs, and its guest does nothing."""
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
        thaw(tmp_path / "agent", 20.0)  # answered after that look's call, which would count as somebody who waits
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


def test_nobody_calls_where_somebody_is_connected(tmp_path: Path) -> None:
    """Libvirt, usually. QEMU would pass our call to the agent when that one goes, and the answer to the next."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as libvirt:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(4)
        libvirt.connect(str(tmp_path / "agent"))
        with pytest.raises(AgentLineError, match="Somebody else is connected"):
            thaw(tmp_path / "agent", 0.2)
        with listener.accept()[0]:
            listener.settimeout(0)
            assert not is_gone(tmp_path / "agent")
            with pytest.raises(BlockingIOError):  # nobody else waits
                listener.accept()


def test_who_goes_in_time_is_waited_for(tmp_path: Path) -> None:
    with agent(tmp_path / "agent") as one, socket.socket(socket.AF_UNIX) as libvirt:
        libvirt.connect(str(tmp_path / "agent"))
        threading.Timer(0.2, libvirt.close).start()
        thaw(tmp_path / "agent", 20.0)
        assert one.status == "thawed"


def test_an_answer_that_comes_when_we_have_left_is_json_for_whoever_is_connected_then(tmp_path: Path) -> None:
    """Libvirt gives up the agent for good upon a line that is none, as guest-sync-delimited's answer is."""
    late = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(late))
        listener.listen(4)
        with pytest.raises(AgentLineError, match="does not answer"):
            thaw(late, 0.2)
        with listener.accept()[0] as client:
            asked = client.recv(4096)
    with agent(tmp_path / "other"), socket.socket(socket.AF_UNIX) as line:
        line.connect(str(tmp_path / "other"))
        line.sendall(asked + b'{"execute": "guest-fsfreeze-status"}\n')
        answers = line.makefile("rb")
        read = [json.loads(next(answers)) for _ in range(3)]
    assert read[-1] == {"return": "frozen"}


@contextmanager
def scripted(path: Path, *parts: bytes, pause_s: float = 0.0, last: bytes = b"") -> Iterator[None]:
    """An agent that answers one caller: to the synchronisation, then with each part for a line; then with `last` for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            with suppress(OSError), listener.accept()[0] as client, client.makefile("rb") as lines:
                for part, line in zip((b"", *parts), lines, strict=False):
                    time.sleep(pause_s)
                    client.sendall(part or _synchronised(line))
                while last:
                    client.sendall(last)
                    time.sleep(pause_s)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def _synchronised(line: bytes) -> bytes:
    number = json.loads(line.lstrip(b"\xff"))["arguments"]["id"]
    return json.dumps({"return": number}).encode() + b"\n"


THAWED = b'{"return": "thawed"}\n'


def test_an_agent_that_is_slow_is_waited_for_as_long_as_agreed(tmp_path: Path) -> None:
    with scripted(tmp_path / "agent", THAWED, THAWED, pause_s=0.1):
        thaw(tmp_path / "agent", 20.0)


def test_the_whole_conversation_has_one_time_however_many_pieces_it_comes_in(tmp_path: Path) -> None:
    """An agent in trouble that sends a byte now and then would keep the guard from its next look."""
    with (
        scripted(tmp_path / "agent", b"{", pause_s=0.02, last=b" "),
        pytest.raises(AgentLineError, match="does not answer"),
    ):
        thaw(tmp_path / "agent", 0.3)


def test_a_line_that_does_not_end_is_not_read_for_ever(tmp_path: Path) -> None:
    with (
        scripted(tmp_path / "agent", b"{", last=b" " * 4096),
        pytest.raises(AgentLineError, match="a line that does not end"),
    ):
        thaw(tmp_path / "agent", 20.0)


@pytest.mark.parametrize("parts", [(), (b'{"return": "thaw',)], ids=["before its answer", "in the middle of it"])
def test_an_agent_that_hangs_up_is_told(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    with scripted(tmp_path / "agent", *parts), pytest.raises((AgentLineError, ConnectionError)) as raised:
        thaw(tmp_path / "agent", 20.0)
    if parts:
        assert "has hung up" in str(raised.value)


@pytest.mark.parametrize("odd", [b"7\n", b'["thawed"]\n', b"null\n"])
def test_an_answer_of_another_kind_says_nothing_of_the_guest(tmp_path: Path, odd: bytes) -> None:
    with scripted(tmp_path / "agent", odd, odd, odd), pytest.raises(AgentLineError, match="its guest is None"):
        thaw(tmp_path / "agent", 20.0)


@pytest.mark.parametrize("why", ['"no"', '{"desc": "no"}'])
def test_a_refusal_in_whatever_form_is_told(tmp_path: Path, why: str) -> None:
    with (
        scripted(tmp_path / "agent", f'{{"error": {why}}}\n'.encode()),
        pytest.raises(AgentLineError, match="refused guest-fsfreeze-status: no"),
    ):
        thaw(tmp_path / "agent", 20.0)


def test_what_cannot_be_connected_to_is_not_called_gone(tmp_path: Path) -> None:
    assert not is_gone(tmp_path / ("a" * 120))  # a name that no socket can have


def test_a_socket_whose_queue_is_full_is_waited_for_no_longer_than_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux has a client that sets no time-out wait for room in the queue; one may come between look and call."""
    monkeypatch.setattr(agent_line, "connections", lambda _: 0)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(0)
        first.connect(str(tmp_path / "agent"))
        with pytest.raises(OSError, match="unavailable"):
            thaw(tmp_path / "agent", 0.2)
