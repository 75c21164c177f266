"""A Docker daemon of our own, with all that it has in one directory; and Compose, from the Debian that has it.

The machine's own daemon, if there is one, is not asked. A daemon may be a lab host's: in its namespaces a container that asks
for the host's processes, name, network and directories gets those of the lab host.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.debian import Tree
from ops.lab.host import Host
from ops.lab.waiting import tail, wait_for

_START_S = 120.0
#: Debian 12 has Compose 1 only, which does not know `include`, profiles of services that others need, and `--wait`.
COMPOSE_RELEASE, COMPOSE_PACKAGES = "trixie", ("docker-compose",)


#: A lab host's /sys is its own, and has no control groups. In a mount namespace that others see nothing of, and in which mounts
#: are shared, as systemd makes them: Docker hands on later mounts from such ones only.
_WITH_CONTROL_GROUPS = """
if [ "$(cut -d: -f1,2 /proc/self/cgroup)" = 0: ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs tmpfs /sys/fs/cgroup
    for controllers in $(cut -d: -f2 /proc/self/cgroup); do
        place=/sys/fs/cgroup/${controllers#name=}
        mkdir "$place"
        case $controllers in name=*) controllers=none,$controllers ;; esac
        mount -t cgroup -o "$controllers" cgroup "$place"
    done
fi
exec "$@"
"""


class DockerError(RuntimeError):
    """A command of Docker or Compose failed. The message has the end of its output."""


@dataclass
class Docker:
    """A context manager: leaving it ends the daemon, every container, and what it mounted or made of networks.

    `builds`: it has the machine's network as it is, to build images with, and none for containers. Otherwise its containers
    have one that no other reaches, in the lab host's network namespace or in one of its own.
    """

    directory: Path
    host: Host | None = None
    builds: bool = False
    _daemon: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def socket(self) -> Path:
        return self.directory / "docker.sock"

    @property
    def _log(self) -> Path:
        return self.directory / "dockerd.log"

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        daemon = ["dockerd", "--host", f"unix://{self.socket}", "--data-root", str(self.directory / "data")]
        daemon += ["--exec-root", str(self.directory / "exec"), "--pidfile", str(self.directory / "dockerd.pid")]
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(
                self._inside(daemon), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        try:
            wait_for("dockerd", self._answers, _START_S, evidence=self._log)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _inside(self, daemon: list[str]) -> list[str]:
        """The daemon's command line, in namespaces that end with it."""
        if self.builds:
            return ["unshare", "--mount", *daemon, "--bridge=none", "--iptables=false", "--ip-forward=false"]
        if self.host is None:
            return ["unshare", "--mount", "--net", "sh", "-c", f"ip link set lo up && exec {shlex.join(daemon)}"]
        shared = ["unshare", "--mount", "--propagation", "shared"]
        return self.host.inside([*shared, "sh", "-ec", _WITH_CONTROL_GROUPS, "sh", *daemon])

    def _end(self) -> None:
        """End every container, then the daemon, and wait for it."""
        if self._daemon is None:
            return
        if self._daemon.poll() is None:
            running = self.run("ps", "--quiet", check=False).split()
            if running:
                self.run("kill", *running, check=False)
            self._terminate()
            self._daemon.wait(60)
        self._daemon = None
        (self.directory / "dockerd.pid").unlink(missing_ok=True)

    def _terminate(self) -> None:
        """Tell the daemon itself, which in a host is a child of nsenter, to end."""
        assert self._daemon is not None
        if self.host is None:
            self._daemon.terminate()
        else:
            self.host.run(["busybox", "kill", "-TERM", (self.directory / "dockerd.pid").read_text().strip()])

    def _answers(self) -> bool:
        if self._daemon is not None and self._daemon.poll() is not None:
            raise DockerError(f"dockerd ended with {self._daemon.returncode}; {tail(self._log)}")
        return self.socket.exists() and bool(self.run("version", check=False))

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.directory)}

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a docker command, whose output is to be read from it."""
        return subprocess.Popen(["docker", *arguments], env=self._env, stdout=subprocess.PIPE, text=True)

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a docker command; its output. Raises DockerError."""
        done = subprocess.run(["docker", *arguments], env=self._env, capture_output=True, text=True, check=False)
        if done.returncode and check:
            raise DockerError(f"docker {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return "" if done.returncode else done.stdout

    def import_tree(self, tree: Tree, name: str, certificates: Path) -> None:
        """Make an image of a Debian tree that trusts the certificates which this machine trusts, and no more."""
        place = "./usr/local/share/ca-certificates/machine.crt"
        trusted = self.directory / "trust" / place
        trusted.parent.mkdir(parents=True)
        shutil.copy(certificates, trusted)
        archive = self.directory / "base.tar"
        parts = ["--exclude=./dev/*", "-C", str(tree.root), ".", "-C", str(self.directory / "trust"), place]
        subprocess.run(["tar", "-cf", str(archive), *parts], check=True)
        self.run("import", str(archive), name)
        archive.unlink()


@dataclass(frozen=True)
class Compose:
    """Compose 2 on a project that lies under the daemon's directory."""

    docker: Docker
    tree: Tree
    project: Path
    settings: Mapping[str, str]

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.project.name}-{service}-1"

    def __call__(self, *arguments: str) -> str:
        """Run a command of Compose; its output. Raises DebianError."""
        work = self.docker.directory
        self.project.joinpath(".env").write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        env = {"DOCKER_HOST": "unix:///mnt/docker.sock", "DOCKER_BUILDKIT": "0", "HOME": "/mnt"}
        inside = f"/mnt/{self.project.relative_to(work)}"
        return self.tree.run(["docker-compose", *arguments], work, env=env, directory=inside).stdout
