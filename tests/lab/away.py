"""Storage of a guest that stands still and goes on, without a network.

A file of a file system in user space, whose server is stopped: every call on it hangs, also of who only looks, as on NFS whose
server is gone. The server is QEMU's storage daemon, on the guest's host alone, and the file is a qcow2 image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.lab.host import Host
from ops.lab.waiting import wait_for


class Away:
    """A qcow2 image of 64 MiB on such storage, in the folder of the guest that is to have it."""

    def __init__(self, host: Host, guest: str) -> None:
        self.host = host
        self.folder = host.images / guest
        self.folder.mkdir()
        self.folder.chmod(0o711)
        self._pid = self.folder / "server.pid"
        self._serve()

    @property
    def image(self) -> Path:
        """Where the host has it; a file of no bytes outside of the host."""
        return self.folder / "vda.qcow2"

    def _serve(self) -> None:
        real = self.folder / "real"
        self.host.run(["qemu-img", "create", "-q", "-f", "qcow2", os.fspath(real), "64M"])
        self.image.touch()
        node = f"driver=file,node-name=real,filename={real}"
        export = f"type=fuse,id=image,node-name=real,mountpoint={self.image},writable=on,growable=on,allow-other=on"
        server = ["qemu-storage-daemon", "--daemonize", "--pidfile", os.fspath(self._pid)]
        self.host.run([*server, "--blockdev", node, "--export", export])

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Storage goes on when the block is left, whatever happens in it."""
        self._signal("STOP")
        try:
            yield
        finally:
            self._signal("CONT")

    def _signal(self, name: str) -> None:
        self.host.run(["busybox", "kill", f"-{name}", self._pid.read_text(encoding="ascii").strip()])

    def remove(self) -> None:
        """Take it off the host; nobody uses it any more."""
        self._signal("TERM")
        wait_for("the storage daemon ends", lambda: not self._pid.exists(), 10.0)
