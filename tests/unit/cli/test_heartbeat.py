"""Heartbeats: heard while the process is at work, missed when it is not, and sent to nobody who did not ask."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from freezeframe.heartbeat import BEAT, Pulse, beat_while, tell_ready


def test_a_process_is_lost_only_after_it_was_heard_and_then_was_not(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path / "pulse", 0.05)
    time.sleep(0.1)
    assert not pulse.lost()  # still starting
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(BEAT, pulse.env["NOTIFY_SOCKET"])
    pulse.lost()
    while not pulse.lost():
        time.sleep(0.01)
    pulse.close()
    assert not (tmp_path / "pulse").exists()


def test_beats_come_for_as_long_as_the_process_is_at_work(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path / "pulse", 0.04)
    asked = 0
    seen = threading.Event()

    def alive() -> bool:
        nonlocal asked
        seen.wait()  # else it might be over before it is looked for
        asked += 1
        return asked <= 3

    beat_while(alive, pulse.env)
    beating = next(thread for thread in threading.enumerate() if thread.name == "heartbeat")
    seen.set()
    beating.join()
    assert asked == 4
    while not pulse.lost():
        time.sleep(0.01)
    pulse.close()


def test_who_has_told_that_it_is_ready_is_and_need_not_beat(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path / "pulse", None)
    assert int(pulse.env["WATCHDOG_USEC"]) == 0
    assert not pulse.lost()
    assert [pulse.is_ready] == [False]
    tell_ready(pulse.env)
    assert not pulse.lost()
    assert [pulse.is_ready] == [True]
    beat_while(lambda: False, pulse.env)  # which asks nobody: there is no time to beat within
    assert not pulse.lost()
    pulse.close()
    tell_ready(pulse.env)  # its supervisor is gone
    tell_ready({})


def test_being_ready_is_no_beat(tmp_path: Path) -> None:
    """A process that starts, tells that it is ready and then stands still is lost only by its beats."""
    pulse = Pulse(tmp_path / "pulse", 0.01)
    tell_ready(pulse.env)
    time.sleep(0.05)
    assert not pulse.lost()
    assert pulse.is_ready
    pulse.close()


def test_nothing_beats_where_nobody_listens() -> None:
    def never() -> bool:
        raise AssertionError("asked for a heartbeat that nobody wants")

    beat_while(never, {})
    beat_while(never, {"NOTIFY_SOCKET": "/nowhere"})
