"""Process 1 of a host. Started inside fresh namespaces; it dresses them as a host, then reaps what others leave.

Standard library only and run by its path: it starts before anything else of the lab is there. It reads one JSON object
from standard input and does nothing before that; if the lab's process dies first, it reads the end of file and ends.
The lab may die after that: a host ends when its init is killed, and the kernel then kills all else in the namespace.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def graft(missing: Path, shadow: Path) -> None:
    """Make a directory appear here only: its parent is covered by a copy made of binds, with one name more.

    So nothing of a lab is created on the machine outside the lab's directory, not even a mount point.
    """
    parent = missing.parent
    shadow.mkdir(parents=True)
    for entry in os.scandir(parent):
        copy = shadow / entry.name
        if entry.is_symlink():
            copy.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir():
            copy.mkdir()
            mount("--rbind", entry.path, str(copy))
        elif entry.is_file():
            copy.touch()
            mount("--bind", entry.path, str(copy))
    (shadow / missing.name).mkdir()
    mount("--rbind", str(shadow), str(parent))


def cover(root: Path, private: list[str]) -> None:
    """Each private path shows the host's own tree under the lab directory, which is at the same place in and out."""
    for number, name in enumerate(private):
        target, source = Path(name), root / name.lstrip("/")
        if not target.exists():
            graft(target, root / "graft" / str(number))
        mount("--bind", str(source), str(target))


def show_own_network() -> None:
    """A sysfs belongs to the network namespace it was mounted from: libvirtd would look for the machine's interfaces.

    Where the mount is refused, as in some containers, libvirtd only complains in its log.
    """
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=False)


def connect(name: str, address: str) -> None:
    socket.sethostname(name)
    for words in (
        ["link", "set", "lo", "up"],
        ["address", "add", address, "dev", "eth0"],
        ["link", "set", "eth0", "up"],
    ):
        subprocess.run(["ip", *words], check=True)


def end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def reap() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.1)


def main() -> None:
    line = sys.stdin.readline()
    if not line:
        sys.exit("the lab's process ended before it told this host what to be")
    spec = json.loads(line)
    signal.signal(signal.SIGTERM, end)
    show_own_network()
    cover(Path(spec["root"]), spec["private"])
    connect(spec["name"], spec["address"])
    Path(spec["ready"]).touch()
    reap()


if __name__ == "__main__":
    main()
