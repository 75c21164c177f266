"""Who is connected to a socket that a QEMU listens at, as the kernel tells without asking QEMU.

A QEMU serves one client at a time, and lets few others wait. [qemu chardev/char-socket.c] A caller that gives up leaves its
connection in that queue, with what it has sent: QEMU passes it to the agent when the one before has gone, and the agent's
answer goes to the next, libvirt perhaps. Callers enough fill the queue, and libvirt, which does not wait, is refused: it is
without the agent then until the guest's end of the channel is opened anew. [libvirt qemu_agent.c: qemuAgentOpenUnix]
So nobody calls where somebody is connected or waits.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

TABLE: Final = Path("/proc/net/unix")
#: Number, references, protocol, flags, type, state, inode, path. [proc(5), /proc/net/unix]
_LINE: Final = re.compile(rb"\w+: \w+ \w+ (\w+) \w+ (\w+) +\d+ (.*)")
_LISTENS: Final = 0x10000
#: SS_CONNECTING is one that the listener has not accepted yet. [linux/net.h, net/unix/af_unix.c: unix_seq_show]
_CONNECTING, _CONNECTED = 2, 3


def connections(path: Path, table: Path = TABLE) -> int | None:
    """Return how many are connected to the socket at `path`, or wait to be; None if nobody is seen to listen there.

    A QEMU of another network namespace is not seen, whether it listens or not. Raises OSError.
    """
    found = [match for line in table.read_bytes().splitlines() if (match := _LINE.fullmatch(line))]
    there = [
        (int(flags, 16), int(state, 16)) for flags, state, name in map(re.Match.groups, found) if name == bytes(path)
    ]
    if not any(flags & _LISTENS for flags, _ in there):
        return None
    return sum(state in {_CONNECTING, _CONNECTED} for _, state in there)
