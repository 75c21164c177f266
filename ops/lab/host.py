"""A host: namespaces with a name, an address and a daemon of libvirt's; and how to run something there."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import IO

import libvirt

from ops import modular
from ops.lab import network
from ops.lab.daemon import PRIVATE
from ops.lab.errors import LabError
from ops.lab.launch import launch
from ops.lab.profile import Profile
from ops.lab.state import HostState, LabState
from ops.lab.waiting import tail, wait_for

_START_TIMEOUT_S = 120.0


def _ignore_message(_context: object, _error: object) -> None:
    """On stderr libvirt prints every error besides raising it; the exception is enough."""


class Host:
    """One host of a lab. Its files are at `root`, at the same path outside and inside."""

    def __init__(self, directory: Path, lab: LabState, state: HostState) -> None:
        self.name: str = state.name
        self.root = directory / state.name
        self.profile = Profile(state.tree)
        self._lab = lab
        self._state = state
        self._connection: libvirt.virConnect | None = None

    @property
    def address(self) -> IPv4Address:
        return self._state.address

    @property
    def socket(self) -> Path:
        """Where libvirtd or virtqemud listens, seen from outside."""
        return self.root / self.profile.socket

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def images(self) -> Path:
        """Where the guests' files are, the same inside and outside."""
        return self.root / "images"

    @property
    def is_up(self) -> bool:
        return self._state.init is not None and self._state.init.alive()

    @property
    def init_pid(self) -> int:
        """The init's number outside; raises LabError if the host is not up."""
        if self._state.init is None or not self._state.init.alive():
            raise LabError(f"{self.name} is not up")
        return self._state.init.pid

    def start(self, save: Callable[[], None]) -> subprocess.Popen[str]:
        """Everything but libvirtd. `save` is called when the state holds the host's pids."""
        return launch(self.root, self._lab, self._state, save)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        cwd: str = "/",
        timeout_s: float | None = 300.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on this host to its end. Raises subprocess's own errors."""
        return subprocess.run(
            self.inside(argv, cwd), env=env, check=check, capture_output=True, text=True, timeout=timeout_s
        )

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program on this host. The Popen is nsenter's; it ends as the program does, and with the host."""
        return subprocess.Popen(
            self.inside(argv, cwd),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def inside(self, argv: Sequence[str], cwd: str = "/") -> list[str]:
        """The command line that runs this one on the host."""
        spaces = ("--mount", "--pid", "--net", "--uts", "--ipc")
        return ["nsenter", "--target", str(self.init_pid), *spaces, f"--wdns={cwd}", "--", *argv]

    def start_libvirtd(self) -> None:
        """Start libvirtd, or the daemon that the host has in its place; also after kill_libvirtd.

        It leaves its parent and becomes a child of the host's init.

        Guests that run are found again a moment later, their agents some tenths of a second after that: until then a
        call ends with "QEMU guest agent is not connected" (measured with libvirt 9.0).
        """
        name, log = self.profile.daemon, self.root / self.profile.log
        for companion in self.profile.companions:
            self._start_companion(companion)
        done = self._run_daemon(name)
        if done.returncode:
            raise LabError(f"{self.name}: {name}: {done.stderr.strip()}; {tail(log)}")
        wait_for(f"{self.name}: {name}", self._answers, _START_TIMEOUT_S, evidence=log)

    def _start_companion(self, name: str) -> None:
        """Unless it runs: it outlives libvirtd, as on any host."""
        if (self.root / f"run/{name}.pid").exists():
            return
        done = self._run_daemon(name)
        if done.returncode:
            raise LabError(f"{self.name}: {name}: {done.stderr.strip()}")

    def _run_daemon(self, name: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.profile.command([name, "--daemon"], PRIVATE), check=False)

    def kill_libvirtd(self) -> None:
        """SIGKILL, as the kernel does it when memory is out; the guests run on."""
        self._signal_libvirtd("KILL")
        self._connection = None

    def suspend_libvirtd(self) -> None:
        """SIGSTOP: it keeps its sockets and answers nobody, until `resume_libvirtd`."""
        self._signal_libvirtd("STOP")

    def resume_libvirtd(self) -> None:
        self._signal_libvirtd("CONT")

    def _signal_libvirtd(self, name: str) -> None:
        self._signal(name, self.root / self.profile.pid_file)

    def _signal(self, name: str, pid_file: Path) -> None:
        self.run(["busybox", "kill", f"-{name}", pid_file.read_text().strip()])

    def restart_keeper(self) -> None:
        """Kill the daemon that keeps passphrases, which are lost with it, and start it: virtsecretd, else libvirtd itself."""
        if modular.SECRETS in self.profile.companions:
            self.kill_virtsecretd()
            self._start_companion(modular.SECRETS)
        else:
            self.kill_libvirtd()
            self.start_libvirtd()

    def kill_virtsecretd(self) -> None:
        """SIGKILL; `start_libvirtd` starts it again. A connection that had asked it is of no use for passphrases any more."""
        self._connection = None
        pid_file = self.root / f"run/{modular.SECRETS}.pid"
        self._signal("KILL", pid_file)
        pid_file.unlink()

    def _answers(self) -> bool:
        try:
            return bool(self.connection().getLibVersion())
        except libvirt.libvirtError:
            return False

    def connection(self) -> libvirt.virConnect:
        """The lab's own connection to this host's libvirtd, opened when it is first wanted; for one thread at a time."""
        if self._connection is None or not self._connection.isAlive():
            self._connection = self.another_connection()
        return self._connection

    def another_connection(self) -> libvirt.virConnect:
        """For a thread that calls while another does.

        libvirt 9.0's client may send the call of one only when the other's has been answered.
        """
        libvirt.registerErrorHandler(_ignore_message, None)
        return libvirt.open(self.uri)

    def close(self) -> None:
        if self._connection is not None:
            with suppress(libvirt.libvirtError):
                self._connection.close()
            self._connection = None

    def cut(self) -> None:
        """Pull the network cable: what is sent is lost, nothing is refused. libvirt's Unix socket is not the network."""
        network.set_link(self._lab.link(self._state), "down")

    def mend(self) -> None:
        network.set_link(self._lab.link(self._state), "up")

    def kill(self) -> None:
        """Everything on this host, at once, by the kernel: the daemon, all guests, whatever was spawned."""
        self.close()
        for process in (self._state.init, self._state.launcher):
            if process is not None:
                process.kill()
        network.remove(self._lab.link(self._state))
