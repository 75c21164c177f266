"""Runs of pytest that need not start Python and import libraries each time: a process that is forked for every run.

    Runner (in the tool) ── tests, seconds ──▶ server (this module as a program): libraries imported, none of the project
                         ◀── what failed ────    └─ fork ─▶ pytest of the project as it is now, in a session of its own

A run that does not end in its time is killed with all processes of its session.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO

#: Where this tool itself is; a project under test may have none.
TOOL = Path(__file__).parents[2]
#: Most of the time that a run would need to start. None of them starts a thread when it is imported.
_LIBRARIES = (
    "pytest",
    "pytest_timeout",
    "hypothesis",
    "redis",
    "celery",
    "celery.app.amqp",
    "celery.app.base",
    "celery.app.task",
    "celery.backends.redis",
    "kombu",
    "kombu.transport.redis",
    "pydantic_settings",
    "structlog",
    "structlog.testing",
    "typer",
    "rich",
    "lxml.etree",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "backports.zstd",
    "libvirt",
    "libvirt_qemu",
    "ulid",
    "unittest.mock",
    "multiprocessing.connection",
    "xml.etree.ElementTree",
)
#: Of plugins that were imported before it pytest warns, since it rewrites their asserts; unless their docstring says this.
_PLUGINS = ("hypothesis", "_hypothesis", "pytest_timeout")
_NOT_REWRITTEN = "PYTEST_DONT_REWRITE"
#: Sets of words have the same order in each process, and so have tests that are named after such words.
SAME = {"PYTHONHASHSEED": "0"}
_LOOK_S = 0.01
#: The answer for a run that was killed.
NO_END = "no end"
#: The status of a run in which pytest itself broke before it could judge anything.
_BROKEN = 99


class RunnerError(RuntimeError):
    """Pytest ended without success and names no test that failed: by itself that judges nothing."""


class Runner:
    """A server for one copy of the project."""

    def __init__(self, root: Path) -> None:
        env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{TOOL}", "PYTHONDONTWRITEBYTECODE": "1", **SAME}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "ops.mutants.runner"],
            cwd=root,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, tests: Sequence[str], limit_s: float, test_s: float) -> str | None:
        """Return the first test that fails, NO_END for a run that takes longer, None if all pass. Raises RunnerError.

        A test that takes longer than `test_s` fails.
        """
        calls, answers = _pipes(self._server)
        print(json.dumps({"tests": list(tests), "limit_s": limit_s, "test_s": test_s}), file=calls, flush=True)
        answer = json.loads(answers.readline())
        if "broken" in answer:
            raise RunnerError(f"pytest broke: {answer['broken']}")
        failed: str | None = answer["failed"]
        return failed

    def close(self) -> None:
        calls, answers = _pipes(self._server)
        calls.close()
        self._server.wait()
        answers.close()


def _pipes(server: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert server.stdin is not None
    assert server.stdout is not None
    return server.stdin, server.stdout


def serve() -> None:
    """Fork a pytest for each line of the standard input, and answer with a line each."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name, module in list(sys.modules.items()):
        if name.startswith(_PLUGINS):
            module.__doc__ = _NOT_REWRITTEN
    gc.freeze()  # a collection in a child would copy all their pages
    for line in sys.stdin:
        call = json.loads(line)
        print(json.dumps(_forked(**call)), flush=True)


def _forked(tests: list[str], limit_s: float, test_s: float) -> dict[str, str | None]:
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            _become_pytest(tests, test_s, said)
        status = _status(child, time.monotonic() + limit_s)
        if status is None:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"failed": NO_END}
        if status == 0:
            return {"failed": None}
        said.seek(0)
        text = said.read()
        failed = [one for one in text.splitlines() if one.startswith(("FAILED ", "ERROR "))]
        if failed:
            return {"failed": failed[0].split(" ")[1]}
        return {"broken": f"wait status {status}: {text[-3000:]}"}  # no test is named, so nothing is judged


def _status(child: int, deadline: float) -> int | None:
    """Return the wait status of the child; None if it still runs at the deadline."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_S)


def _become_pytest(tests: list[str], test_s: float, said: IO[str]) -> None:
    """Be a pytest whose words go to a file. Does not return."""
    status = _BROKEN
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in ((0, nothing), (1, said.fileno()), (2, said.fileno())):
            os.dup2(source, number)
        sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w"), open(2, "w")  # noqa: SIM115
        pytest = importlib.import_module("pytest")
        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=no", "-rfE"]
        options += [f"--timeout={test_s:.1f}", "--timeout-method=signal"]
        status = int(pytest.main([*options, *tests]))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  the server tells
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)  # the server's own exit handlers are not this process's to run


if __name__ == "__main__":
    serve()
