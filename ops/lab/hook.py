"""A guest's agent started anew with a freeze hook: for tests that want a freeze to take its time, or to fail."""

from ops.lab.errors import LabError
from ops.lab.guest import Guest
from ops.lab.waiting import wait_for

_AGENT = (
    "qemu-ga --daemonize --method virtio-serial --path /dev/virtio-ports/org.qemu.guest_agent.0 --statedir /run "
    "--pidfile /run/qemu-ga.pid --fsfreeze-hook=/run/hook"
)
_RESTART_TIMEOUT_S = 180.0


def hook_agent(guest: Guest, hook: str) -> None:
    """Start the agent with `hook`, a shell script: called with `freeze` before it freezes, with `thaw` after it thaws.

    Only one process may have the port open, so the new agent is tried until the old one is gone. How the script fares that
    ends the old one is not asked: its answer might go with that agent.
    """
    guest.write_file("/run/hook", hook.encode())
    guest.write_file("/run/agent", f"#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\n{_AGENT}\n".encode())
    guest.shell("chmod +x /run/hook /run/agent; rm -f /run/hooked")
    gone = "old=$(cat /run/qemu-ga.pid); kill $old; while kill -0 $old; do sleep 0.2; done; rm -f /run/qemu-ga.pid"
    again = f"sleep 0.3; {gone}; touch /run/hooked; until /run/agent; do sleep 0.5; done"
    guest.agent(
        "guest-exec", {"path": "/bin/sh", "arg": ["-c", f"setsid sh -c '{again}' </dev/null >/dev/null 2>&1 &"]}
    )
    wait_for(f"{guest.name}: agent with a hook", lambda: _hooked(guest), _RESTART_TIMEOUT_S, 0.2)


def _hooked(guest: Guest) -> bool:
    try:
        return "hook" in guest.shell("cat /run/hooked; tr '\\0' ' ' </proc/$(cat /run/qemu-ga.pid)/cmdline")
    except LabError:  # it went away in the middle of the question
        return False
