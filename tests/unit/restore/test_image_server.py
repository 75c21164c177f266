"""The image server is used only once it listens, however long qemu-nbd takes between its socket's name and that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbd
import pytest

from workers.exchange.image_server import inspect, served

_SLOW = """#!{python}
import os, socket, sys, time
path = next(word.partition("=")[2] for word in sys.argv if word.startswith("--socket="))
with socket.socket(socket.AF_UNIX) as bound:
    bound.bind(path)  # the name is there, and nobody listens
    time.sleep(0.3)
os.unlink(path)
os.execv({real!r}, sys.argv)
"""


@pytest.fixture
def slow_to_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A qemu-nbd whose socket has a name for 0.3 s before anybody listens there."""
    real = shutil.which("qemu-nbd")
    assert real is not None
    program = tmp_path / "bin" / "qemu-nbd"
    program.parent.mkdir()
    program.write_text(_SLOW.format(python=sys.executable, real=real))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("slow_to_listen")
def test_a_socket_that_has_a_name_only_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    with served(inspect(path, "qcow2"), "vda") as server:
        handle = nbd.NBD()
        handle.set_export_name("vda")
        handle.connect_unix(str(server.socket))
        assert handle.get_size() == 1 << 20
        handle.shutdown()
