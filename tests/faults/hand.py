"""A hand inside a guest that needs no agent: a port of the test's own, at which a shell does what it is told.

The agent is what faults strike, and a frozen one runs no commands.
"""

from __future__ import annotations

import socket

from ops.lab.guest import Guest

PORT = "hand"
#: Seconds for a command of a few milliseconds in an emulated guest on a busy machine.
PATIENCE_S = 60.0

_SHELL = f"""exec 3<>/dev/virtio-ports/{PORT}
while :; do
  read -r line <&3 || {{ sleep 0.1; continue; }}
  sh -c "$line" </dev/null >/dev/null 2>&1
  echo done >&3
done
"""


def give_hand(guest: Guest) -> None:
    """Once for each boot, while the agent answers."""
    guest.write_file("/run/hand", _SHELL.encode())
    guest.shell("setsid sh /run/hand </dev/null >/dev/null 2>&1 &")


def do(guest: Guest, command: str) -> None:
    """Have the guest's shell do a line, and wait until it has. Raises OSError if there is no answer."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(PATIENCE_S)
        line.connect(str(guest.folder / f"{PORT}.sock"))
        line.sendall(f"{command}\n".encode())
        answer = b""
        while b"done" not in answer:
            if not (more := line.recv(64)):
                raise ConnectionError(f"the port of {guest.name} was closed")
            answer += more
