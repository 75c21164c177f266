"""Start a qemu-nbd for tests and benches, and know when it serves.

qemu-nbd makes the name of its socket before it listens there, so a socket that exists may still refuse a connection.
It writes its pid file last, once it listens. [qemu qemu-nbd.c, qemu_write_pidfile]
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Seconds for qemu-nbd to open an image and listen: it takes 30 ms, and more on a machine with much to do.
START_S = 60.0
_POLL_S = 0.01


class ServerError(RuntimeError):
    """qemu-nbd did not start."""


@contextmanager
def serving(socket: Path, image: Path, options: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Serve `image` at `socket` for the length of the block. Raise ServerError if qemu-nbd ends or does not listen."""
    pid_file = socket.with_name(f"{socket.name}.pid")
    pid_file.unlink(missing_ok=True)
    command = ["qemu-nbd", *options, f"--socket={socket}", f"--pid-file={pid_file}", str(image)]
    with subprocess.Popen(command) as server:
        try:
            _wait(server, pid_file)
            yield server
        finally:
            server.kill()  # a SIGTERM while it starts is lost
            server.wait()
            pid_file.unlink(missing_ok=True)


def _wait(server: subprocess.Popen[bytes], pid_file: Path) -> None:
    give_up = time.monotonic() + START_S
    while not pid_file.exists():
        if server.poll() is not None:
            raise ServerError(f"qemu-nbd ended with {server.returncode}")
        if time.monotonic() > give_up:
            raise ServerError(f"qemu-nbd did not listen within {START_S:g} s")
        time.sleep(_POLL_S)
