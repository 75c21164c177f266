"""A site: a Redis, a repository and a real orchestrator, a process of its own, for a fleet.

with Site(directory, redis_url) as site:
    site.capture(request, …)
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from ulid import ULID

from freezeframe import bus
from freezeframe.client import AnyEvent, Client
from freezeframe.contract.event import EndEvent, StateEvent
from freezeframe.contract.request import CaptureRequest, Receipt
from freezeframe.contract.words import Policy, RunState
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings
from ops.fleet.made_up import MadeUp

ROOT: Final = Path(__file__).parents[2]
#: Seconds for the orchestrator to be ready.
READY_S: Final = 120.0
#: Small: a fleet's disks are holes, and their sizes are all that differs.
CHUNK_BYTES: Final = 4096


@dataclass(frozen=True)
class Moment:
    """The state of a site when a run came to a state."""

    at: float  # of time.monotonic
    orchestrator_cpu_s: float


@dataclass(frozen=True)
class Course:
    """The course of one capture."""

    capture_id: str
    asked: Moment
    states: dict[RunState, Moment]
    receipt: Receipt | None  # None: it goes on


class FleetProcess:
    """A fleet in a process of its own (`ops.fleet.__main__`)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @classmethod
    @contextmanager
    def started(cls, env: Mapping[str, str], directory: Path, made_up: MadeUp) -> Iterator[FleetProcess]:
        """Start a fleet beside the repository in `directory`."""
        numbers = (str(one) for one in (made_up.hosts, made_up.guests_a_host, made_up.disks))
        command = [sys.executable, "-m", "ops.fleet", env["FREEZEFRAME_REDIS_URL"], str(directory), *numbers]
        with subprocess.Popen(
            command, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                fleet = cls(process)
                fleet.expect("ready")
                yield fleet
            finally:
                process.kill()

    def tell(self, verb: str) -> None:
        """Have it do something, and wait until that is done."""
        print(verb, file=self.process.stdin, flush=True)
        self.expect("done")

    def expect(self, word: str) -> None:
        """Wait for its word. Raises RuntimeError if it ends."""
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()).strip() != word:
            if not line:
                raise RuntimeError(f"the fleet ended with {self.process.wait()}")


class Site:
    """A Redis that is there, a new repository, and an orchestrator with these settings, by the names of their variables."""

    def __init__(self, directory: Path, redis_url: str, **variables: str) -> None:
        self.settings = BusSettings.model_validate({"redis_url": redis_url})
        self.repository = Repository.init(directory / "repository", chunk_bytes=CHUNK_BYTES)
        self._directory = directory
        self._env = environment(directory, redis_url) | variables
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.redis = stack.enter_context(bus.connect(self.settings))
            stack.callback(self.kill)
            self._start()
            self._exit = stack.pop_all()
        return self

    def _start(self) -> None:
        command = [sys.executable, "-m", "freezeframe", "orchestrator"]
        self.process = subprocess.Popen(
            command, env=self._env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        self._wait_until_ready()

    def kill(self) -> None:
        """Kill the orchestrator: it can do nothing more."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Kill the orchestrator and start another."""
        self.kill()
        self._start()

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _wait_until_ready(self) -> None:
        """Raise RuntimeError if the orchestrator ends, TimeoutError if it does not take orders in time."""
        until = time.monotonic() + READY_S
        while not any(one["cmd"] == "brpop" for one in self.redis.client_list()):
            if self.process.poll() is not None:
                raise RuntimeError(f"the orchestrator ended with {self.process.returncode}")
            if time.monotonic() > until:
                raise TimeoutError("the orchestrator takes no orders")
            time.sleep(0.05)

    @contextmanager
    def fleet(self, made_up: MadeUp) -> Iterator[FleetProcess]:
        """Start the hosts, which take no orders until they are told to."""
        with FleetProcess.started(self._env, self._directory, made_up) as fleet:
            yield fleet

    def moment(self) -> Moment:
        return Moment(time.monotonic(), cpu_s(self.process.pid))

    def capture(self, **changes: Any) -> Course:
        """Capture every guest, or what `changes` makes of the request; return how that went, when it has ended."""
        return self._course(changes, lambda event: isinstance(event, EndEvent))

    def begin(self, state: RunState, **changes: Any) -> Course:
        """Ask for the same, and return when it has come to that state. Raises RuntimeError if it ends before."""
        course = self._course(changes, lambda event: isinstance(event, StateEvent) and event.state is state)
        if course.receipt is not None:
            raise RuntimeError(f"the capture has ended: {course.receipt.faults}")
        return course

    def _course(self, changes: dict[str, Any], is_last: Callable[[AnyEvent], bool]) -> Course:
        request = request_of(**changes)
        client = Client(self.settings)
        asked, states = self.moment(), {}
        client.ask(request)
        for event in client.follow(request.capture_id):
            receipt = event.receipt if isinstance(event, EndEvent) else None
            if isinstance(event, StateEvent):
                states[event.state] = self.moment()
            elif receipt is not None:
                states[receipt.state] = self.moment()
            if receipt is not None or is_last(event):
                break
        return Course(request.capture_id, asked, states, receipt)


def request_of(**changes: Any) -> CaptureRequest:
    """Return a request for every guest, or what `changes` makes of it. Its times are long: one process is all hosts."""
    usual = {"capture_id": str(ULID()), "every_guest": True, "policy": Policy.ALL}
    return CaptureRequest.model_validate({**usual, "muster_timeout_s": 600, "hold_timeout_s": 600, **changes})


def environment(directory: Path, redis_url: str) -> dict[str, str]:
    own = {f"FREEZEFRAME_{name.upper()}_DIR": str(directory / name) for name in ("state", "run", "scratch")}
    return (
        os.environ
        | own
        | {
            "FREEZEFRAME_CONFIG": os.devnull,
            "FREEZEFRAME_REPOSITORY": str(directory / "repository"),
            "FREEZEFRAME_REDIS_URL": redis_url,
            "FREEZEFRAME_HOST_ID": "control-node.example",
            "FREEZEFRAME_METRICS_PORT": "0",
            "TMPDIR": str(directory),
            "FREEZEFRAME_TMP_DIR": str(directory),
        }
    )


def cpu_s(pid: int) -> float:
    """Return the seconds of the processor that a process and its threads have had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
