"""A qemu-nbd of our own that serves one image, to be read only, on a socket in a private directory: any format that QEMU knows.

It is started for us alone and ended by its process id. Without --persistent it ends by itself when the last of its clients is
gone: also when this process is killed. It opens the image and nothing else: an image that names a backing file
or a data file could have any file of this machine read into a repository, and is refused before.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workers.exchange.errors import ImageSetNotFoundError, ImageToolError, ImageUnfitError
from workers.peer import Peer

#: Connections at once, and one to spare.
CONNECTIONS: Final = 5

#: Seconds for qemu-nbd to open an image and listen. It takes 30 ms; a host that is short of memory takes more.
_START_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.005

#: What qemu-img tells of other files that an image reads.
_OTHERS: Final = ("backing-filename", "full-backing-filename")


@dataclass(frozen=True)
class Image:
    """An image that stands alone."""

    path: Path
    format: str
    size_bytes: int  # a multiple of 512, as QEMU sees it


@dataclass(frozen=True)
class Server:
    """A qemu-nbd of our own, and where it listens."""

    socket: Path
    peer: Peer


def inspect(path: Path, image_format: str | None) -> Image:
    """Look at an image; without a format QEMU finds it out. Raises ImageSetNotFoundError, ImageUnfitError, ImageToolError."""
    path = path.absolute()  # no colon in it is taken for a protocol then, nor a dash for an option
    if not path.is_file():
        raise ImageSetNotFoundError(f"{path} is not a file.")
    command = ["qemu-img", "info", "--output=json", *(["-f", image_format] if image_format else []), str(path)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise ImageToolError(f"qemu-img cannot be run: {error.strerror}.") from error
    if done.returncode:
        raise ImageUnfitError(f"{path} cannot be read: {done.stderr.decode(errors='replace').strip()}.")
    found: dict[str, Any] = json.loads(done.stdout)
    if other := _other_file(found, path):
        raise ImageUnfitError(f"{path} does not stand alone: it names {other}.")
    if found.get("encrypted"):
        raise ImageUnfitError(f"{path} is encrypted.")
    return Image(path, found["format"], found["virtual-size"])


def _other_file(found: dict[str, Any], path: Path) -> str | None:
    """A file that the image reads besides itself, other than an extent in its own directory."""
    more = found.get("format-specific", {}).get("data", {})
    names = [found.get(key) for key in _OTHERS] + [more.get("data-file")]
    for extent in more.get("extents", []):
        name = Path(extent.get("filename", ""))
        if name.is_symlink() or not name.is_file() or name.parent.resolve() != path.parent.resolve():
            names.append(str(name))
    return next((str(name) for name in names if name), None)


@contextmanager
def served(image: Image, export_name: str) -> Iterator[Server]:
    """Serve the image for as long as the block lasts, and the first connection to it. Raises ImageToolError."""
    # not in the directory for temporary files: a socket's path must be short, and no data is in this one
    with tempfile.TemporaryDirectory(prefix="freezeframe-") as directory:
        socket, said, listens = (Path(directory) / name for name in ("nbd", "said", "listens"))
        command = [
            "qemu-nbd",
            "--read-only",
            f"--format={image.format}",
            f"--shared={CONNECTIONS}",
            f"--export-name={export_name}",
            f"--socket={socket}",
            f"--pid-file={listens}",
            str(image.path),
        ]
        with said.open("wb") as words:
            try:
                server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
            except OSError as error:
                raise ImageToolError(f"qemu-nbd cannot be run: {error.strerror}.") from error
        try:
            _wait_until(server, listens, said)
            yield Server(socket, Peer(f"the qemu-nbd of {image.path}", server.pid))
        finally:
            _end(server)


def _wait_until(server: subprocess.Popen[bytes], listens: Path, said: Path) -> None:
    """Wait until qemu-nbd has written its pid file, which it does once it listens; its socket exists before that.

    [qemu qemu-nbd.c, qemu_write_pidfile]
    """
    give_up = time.monotonic() + _START_TIMEOUT_S
    while not listens.exists():
        if server.poll() is not None:
            raise ImageToolError(f"qemu-nbd did not start: {said.read_text(errors='replace').strip()}.")
        if time.monotonic() > give_up:
            raise ImageToolError(f"qemu-nbd did not listen within {_START_TIMEOUT_S:.0f} s.")
        time.sleep(_POLL_S)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
