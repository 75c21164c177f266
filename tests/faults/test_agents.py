"""Agents that do not answer, answer late, die with the guest frozen, or say thawed when it is not."""

from __future__ import annotations

import contextlib
import time

import pytest

from ops.lab.errors import LabError
from ops.lab.waiting import wait_for

from .bench import Bench
from .bounds import AGENT_S, BY_HOST_S, HOLD_S, RETRY_S
from .cell import Watch
from .stage import slow_freezer
from .watch import Capture, frozen_since

#: What an emulated guest's agent does when, under load, is not the same each time; why is to be found.
pytestmark = pytest.mark.long

#: Seconds after its freeze began at which the agent is killed, and that it stays away.
KILLED_AT_S, AWAY_S = 1.5, 4.0
#: Beyond the hold's time-out: the freeze succeeds when nobody waits for it any more.
LATE_S = HOLD_S + 2.0
_PID = "$(cat /run/qemu-ga.pid)"
_APART = "</dev/null >/dev/null 2>&1 &"

#: Thaws that the liar answers with success and does not do.
LIES = 2
LIAR = f"""#!/bin/sh
# A stand-in for the agent: it freezes in earnest, and lies about its first thaws.
port=/dev/virtio-ports/org.qemu.guest_agent.0 state=thawed lies={LIES}
kill {_PID}; sleep 1
exec 3<>$port
say() {{ printf '%s\\n' "$1" >&3; }}
while :; do
  read -r line <&3 || {{ sleep 0.1; continue; }}
  case $line in
    *guest-sync*) id=${{line##*:}}; say "{{\\"return\\": ${{id%%\\}}*}}}}" ;;
    *guest-ping*) say '{{"return": {{}}}}' ;;
    *guest-fsfreeze-status*) say "{{\\"return\\": \\"$state\\"}}" ;;
    *guest-fsfreeze-freeze*) for disk in /mnt/*; do fsfreeze --freeze $disk; done; state=frozen; say '{{"return": 2}}' ;;
    *guest-fsfreeze-thaw*)
      if [ $lies -gt 0 ]; then lies=$((lies - 1))
      else for disk in /mnt/*; do fsfreeze --unfreeze $disk; done; state=thawed; fi
      say '{{"return": 2}}' ;;
    *be-honest*) say '{{"return": {{}}}}'; exec 3>&-; rm -f /run/qemu-ga.pid; exec /run/agent ;;
    *) say '{{"error": {{"class": "CommandNotFound", "desc": "no"}}}}' ;;
  esac
done
"""


def test_agent_never_answers_the_freeze(bench: Bench) -> None:
    """It stops in the middle of its freeze; when it goes on, long after, it freezes, and finds the thaw waiting."""
    watch = Watch(bench, "agent stops answering, freezes long after", "freeze")
    bench.on_freeze("gamma", f"(sleep {LATE_S + 4:g}; kill -CONT {_PID}) {_APART}\nkill -STOP {_PID}")
    capture = Capture(bench.system)
    assert capture.end() == "slow-freeze"
    forget(bench, "gamma")
    bench.forget_paces()
    row = watch.judge(capture, max(BY_HOST_S, RETRY_S + AGENT_S))
    assert row.outcome == "slow-freeze"


def test_agent_answers_too_late(bench: Bench) -> None:
    """The freeze that timed out succeeds in the guest later, when the capture has failed: a thaw must follow it."""
    watch = Watch(bench, "agent freezes too late", "freeze")
    bench.on_freeze("gamma", f"sleep {LATE_S:g}")
    capture = Capture(bench.system)
    assert capture.end() == "slow-freeze"
    forget(bench, "gamma")
    refused = Capture(bench.system)
    assert refused.end() == "slow-freeze"
    assert not any(bench.lab.guest(name).fsfreeze_status() == "frozen" for name in bench.guests())
    bench.forget_paces()
    watch.judge(capture, max(BY_HOST_S, RETRY_S + AGENT_S))


def test_agent_dies_with_the_guest_frozen(bench: Bench) -> None:
    """Nobody can thaw such a guest until it has an agent again; then the guard does, at its next try.

    libvirt must see the agent go, or it will not see it come back: that needs the backup ended within 30 s of its death.
    """
    watch = Watch(bench, "agent killed in a frozen guest, back later", "freeze")
    script = f"(sleep {KILLED_AT_S:g}; kill -KILL {_PID}; sleep {AWAY_S:g}; /run/agent) {_APART}"
    bench.on_freeze("alpha", script)
    bench.forget_paces()
    began = time.monotonic()
    with slow_freezer(bench, "gamma"):
        capture = Capture(bench.system)
        frozen_since(bench.lab.guest("alpha"))
    bench.stop("control@host-b")  # so that host-a waits for it, and alpha is frozen when its agent is killed
    time.sleep(HOLD_S)
    bench.go_on("control@host-b")
    outcome = capture.end()
    assert not outcome.startswith("sealed")
    bench.lab.guest("alpha").wait_agent()
    down_s = time.monotonic() - began
    for name in ("alpha", "gamma"):
        forget(bench, name)
    bench.later.clear()
    bench.forget_paces()  # gamma's freeze lasted as long as its worker was stopped, if that came before its end
    watch.judge(capture, down_s + RETRY_S + AGENT_S)


@pytest.mark.timeout(600)
def test_agent_lies_about_thawing(bench: Bench) -> None:
    """It says that it has thawed, and its own status says frozen: the guard goes on until they agree."""
    watch = Watch(bench, f"agent lies about {LIES} thaws", "thaw")
    alpha = bench.lab.guest("alpha")
    alpha.write_file("/run/liar", LIAR.encode())
    alpha.shell(f"setsid sh -c 'sleep 0.5; sh /run/liar' {_APART}")
    wait_for("the liar", lambda: _lies(bench), 120.0, 0.3)
    try:
        capture = Capture(bench.system)
        frozen_since(alpha)
        outcome = capture.end()
        assert outcome == "still-held"
        bench.settle()
    finally:
        with contextlib.suppress(LabError):
            alpha.agent("be-honest")
        wait_for("an honest agent", lambda: not _lies(bench), 120.0, 0.3)
    alpha.wait_agent()
    watch.judge(capture, BY_HOST_S + RETRY_S + AGENT_S)


def _lies(bench: Bench) -> bool:
    """Whether the stand-in answers: it knows no guest-info."""
    alpha = bench.lab.guest("alpha")
    with contextlib.suppress(LabError):
        alpha.agent("guest-ping", timeout_s=2)
        try:
            alpha.agent("guest-info", timeout_s=2)
        except LabError as error:
            return "CommandNotFound" in str(error) or "no" in str(error)
    return False


def forget(bench: Bench, guest: str) -> None:
    """The guest's agent freezes as usual again, once it answers."""

    def forgotten() -> bool:
        try:
            bench.on_freeze(guest, None)
        except LabError:
            return False
        return True

    wait_for(f"{guest}: agent", forgotten, 180.0, 0.5)
