"""The birth of a host.

    lab                                    unshare ── init (process 1 of the host)
     ├─ start ────────────────────────────▶  ·          waits for its orders
     ├─ pids into lab.json, synced
     ├─ cable into the init's network namespace
     ├─ orders ───────────────────────────────────────▶ mounts, name, address
     ◀──────────────────────────────────── `ready` file ┘

If the lab dies before it gives orders, the init reads the end of file and is gone: no process exists that is neither in
lab.json nor about to end by itself.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Interface
from pathlib import Path

from ops.lab import daemon, network
from ops.lab.errors import LabError
from ops.lab.process import ProcessId, children
from ops.lab.state import HostState, LabState
from ops.lab.waiting import tail, wait_for

#: mount, PID, network, UTS (name) and IPC: what makes two workers on one machine take each other for another host.
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--mount-proc", "--kill-child")
_TIMEOUT_S = 120.0


def launch(root: Path, lab: LabState, host: HostState, save: Callable[[], None]) -> subprocess.Popen[str]:
    """A host with its files, mounts, name and address. `save` is called once its pids are in the state."""
    root.mkdir()
    daemon.make_tree(root, lab, host)
    with (root / "init.log").open("w") as log:
        launcher = subprocess.Popen(
            [*_UNSHARE, sys.executable, "-I", str(Path(__file__).with_name("init.py"))],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            text=True,
            # A ^C at the terminal is for the command that made the lab, not for the lab.
            start_new_session=True,
        )
    host.launcher = ProcessId.of(launcher.pid)
    wait_for(f"{host.name}: process 1", lambda: bool(children(launcher.pid)), _TIMEOUT_S, 0.01)
    host.init = ProcessId.of(children(launcher.pid)[0])
    save()
    network.add_link(lab.link(host), lab.bridge, host.init.pid)
    _instruct(root, lab, host, launcher)
    return launcher


def _instruct(root: Path, lab: LabState, host: HostState, launcher: subprocess.Popen[str]) -> None:
    ready, log = root / "ready", root / "init.log"
    order = {
        "root": str(root),
        "name": host.name,
        "address": str(IPv4Interface((host.address, lab.subnet.prefixlen))),
        "private": daemon.PRIVATE,
        "ready": str(ready),
    }

    def is_ready() -> bool:
        if launcher.poll() is not None:
            raise LabError(f"{host.name}: its init ended; {tail(log)}")
        return ready.exists()

    with suppress(BrokenPipeError):
        print(json.dumps(order), file=launcher.stdin, flush=True)
    wait_for(f"{host.name}: its namespaces", is_ready, _TIMEOUT_S, 0.01, evidence=log)
