"""`freezeframe up`: what it refuses before it starts anything, its parts, and its private Redis."""

from __future__ import annotations

import fcntl
import importlib.util
import itertools
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from freezeframe.cli import parts, up
from freezeframe.cli.private_redis import free_port, private_redis
from freezeframe.settings import BusSettings, HostSettings
from freezeframe.supervise import Child, Part

from .run import Run

SETTINGS = BusSettings.model_validate({"redis_url": "redis://:secret@127.0.0.1:1/0"})


@pytest.fixture
def host(place: Path) -> HostSettings:
    return HostSettings()


def test_the_password_is_in_private_files_only(host: HostSettings) -> None:
    with private_redis(host) as own:
        password = urlsplit(own.url).password
        assert password is not None
        files = [path for path in (*host.run_dir.rglob("*"), *host.state_dir.rglob("*")) if path.is_file()]
        assert len([path for path in files if password in path.read_text()]) == 2
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert password not in " ".join(parts.redis_part(own, SETTINGS).argv)
        assert "bind 127.0.0.1\n" in own.config.read_text()
    assert not (host.run_dir / "redis-url").exists()


def test_nobody_asks_the_whole_fleet_whether_a_part_is_ready(run: Run, bus: BusSettings, host: HostSettings) -> None:
    """A broadcast is read by every worker of every host: 2,000 of them a second, after a power cut (D4 of the review)."""
    url = bus.redis_url.get_secret_value()
    env = {"FREEZEFRAME_REDIS_URL": url}
    with private_redis(host) as own, redis.Redis.from_url(url, decode_responses=True) as client:
        hearing = client.pubsub()
        hearing.psubscribe("*")
        assert hearing.get_message(timeout=30)
        asked = [
            parts.redis_part(own, bus),
            parts.guard_part(host),
            parts.control_part(host, bus, env),
            parts.data_part(env),
            parts.orchestrator_part(env),
            parts.flower_part(1, env),
        ]
        ready = {part.name: part.ready() for part in asked}
        assert (ready["redis"], ready["control"], ready["flower"]) == (True, False, False)
        for verb in ("hosts", "guests", "captures"):
            run(verb)
        client.publish("end", "of the test")
        heard = hearing.get_message(timeout=30)
        assert heard is not None
        assert heard["channel"] == "end"
        queues = [key for key in client.scan_iter() if "pidbox" in key or "_kombu" in key]
        assert queues == []  # nor does it wait for an answer
        hearing.close()


def test_no_part_has_a_secret_on_its_command_line(host: HostSettings) -> None:
    env = {"FREEZEFRAME_REDIS_URL": "redis://:secret@127.0.0.1:1/0"}
    found = [
        parts.guard_part(host),
        parts.control_part(host, SETTINGS, env),
        parts.data_part(env),
        parts.orchestrator_part(env),
        parts.flower_part(1, env),  # nobody listens there, and on 5555 somebody's Flower might
    ]
    assert not any("secret" in word for part in found for word in part.argv)
    with ThreadPoolExecutor() as pool:  # each asks for seconds
        ready = dict(zip([part.name for part in found], pool.map(lambda part: part.ready(), found), strict=True))
    assert {name for name, yes in ready.items() if yes} == {part.name for part in found if part.notifies} - {"control"}


def test_workers_end_before_the_guard_and_redis_last(host: HostSettings) -> None:
    with private_redis(host) as own:
        found = [
            parts.redis_part(own, SETTINGS),
            parts.guard_part(host),
            parts.control_part(host, SETTINGS, {}),
            parts.data_part({}),
            parts.orchestrator_part({}),
            parts.flower_part(5555, {}),
        ]
    ranked = sorted(found, key=lambda part: part.end_rank)
    assert [part.name for part in ranked] == ["control", "data", "guard", "orchestrator", "flower", "redis"]
    told = {part.name for part in found if part.orphan_signal is signal.SIGTERM}
    assert told == {"guard", "redis"}


def test_nothing_is_imported_from_where_up_was_typed(host: HostSettings, tmp_path: Path) -> None:
    """Or a `redis.py` in /tmp would run as root."""
    for module in ("freezeframe", "redis", "celery", "orchestrator", "structlog"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('imported from the working directory')")
    service = parts.guard_part(host).argv
    flower = parts.flower_part(1, {}).argv
    for argv in ([*service[: service.index("guard")], "version"], [*flower[: flower.index("flower")], "report"]):
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_part_is_launched_without_the_working_directory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "freezeframe.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    child = Child(Part("echo", ("echo", "ran"), ready=lambda: True), lambda _name, line: lines.append(line))
    assert child.wait(60)
    assert lines == ["ran"]


@pytest.mark.parametrize(
    ("running", "arguments"),
    [
        ("host", []),
        ("host", ["--only", "host"]),
        ("guard", []),
        ("guard", ["--only", "host"]),
        ("guard", ["--only", "guard"]),
        ("orchestrator", ["--only", "orchestrator"]),
    ],
)
def test_a_second_up_is_refused(run: Run, host: HostSettings, running: str, arguments: list[str]) -> None:
    host.run_dir.mkdir()
    with (host.run_dir / f"up-{running}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = run("up", *arguments)
    assert ran.exit_code == 3
    assert "running already with" in ran.stderr


def test_a_second_up_is_told_which_process_the_first_is(run: Run, host: HostSettings) -> None:
    """Its terminal may have been closed."""
    with ExitStack() as running:
        up._lock(running, host, None)
        for _ in range(2):  # nor does a refused one take that away
            ran = run("up")
            assert f"running already, process {os.getpid()}, with" in ran.stderr
            assert f"end it with `kill {os.getpid()}`" in ran.stderr


#: An `up` with one part, which says that it was started; its terminal is closed before it is ended.
_UP = """
import sys
from freezeframe.cli import up
from freezeframe.cli.lines import Lines
from freezeframe.supervise import Part

part = Part("part", (sys.executable, "-c", sys.argv[1]), ready=lambda: True)
with Lines(["part"]) as console:
    up._run([part], console)
"""
_PART = "import signal, sys, time; print(signal.getsignal(signal.SIGHUP).name, flush=True); time.sleep(1000)"


def test_up_goes_on_when_its_terminal_is_closed(tmp_path: Path) -> None:
    """Nor are the parts deaf to that signal for it."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _UP, _PART], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        try:
            os.close(theirs)
            said = b""
            while b"SIG_DFL" not in said or b"ready" not in said:
                said += os.read(ours, 4096)
            [part] = children_of(process.pid)
            process.send_signal(signal.SIGHUP)
            os.close(ours)  # now nobody can read what it tells
            os.kill(part, signal.SIGKILL)
            while children_of(process.pid) in ([], [part]):  # it is at work: it starts the part again
                assert process.poll() is None
            [part] = children_of(process.pid)
            process.terminate()
            assert process.wait() == 0
            assert not Path(f"/proc/{part}").exists()
        finally:
            process.kill()


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations([None, up.Share.HOST, up.Share.GUARD], 2)))
def test_whatever_has_a_guard_keeps_a_second_guard_from_the_host(
    host: HostSettings, first: up.Share | None, second: up.Share | None
) -> None:
    with ExitStack() as running, ExitStack() as refused:
        up._lock(running, host, first)
        with pytest.raises(up.CannotStartError, match="running already"):
            up._lock(refused, host, second)


def test_an_orchestrator_runs_beside_a_host(host: HostSettings) -> None:
    with ExitStack() as running:
        up._lock(running, host, up.Share.HOST)
        up._lock(running, host, up.Share.ORCHESTRATOR)


def test_a_port_that_is_taken_is_refused_before_anything_starts(run: Run, place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = run("up", "--flower-port", str(port))
    assert ran.exit_code == 3
    assert "--no-flower" in ran.stderr
    assert not (place / "repository").exists()


def test_a_machine_without_redis_server(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    ran = run("up", "--no-flower")
    assert ran.exit_code == 3
    assert "redis-server" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["redis", "guard", "control", "data", "orchestrator"]),
        (["--only", "host"], ["guard", "control", "data"]),
        (["--only", "guard"], ["guard"]),
        (["--only", "orchestrator"], ["orchestrator"]),
        (["--redis-url-from-settings"], ["guard", "control", "data", "orchestrator"]),
    ],
)
def test_each_share_has_its_parts(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], names: list[str]
) -> None:
    started: list[str] = []
    monkeypatch.setattr(up, "_run", lambda wanted, _: started.extend(part.name for part in wanted))
    assert run("up", "--no-flower", *arguments).exit_code == 0
    assert started == names
    assert (place / "repository").exists() is (arguments not in (["--only", "host"], ["--only", "guard"]))


def test_a_guard_alone_is_watched_and_needs_no_client_of_nbd(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Part] = []
    monkeypatch.setattr(up, "_run", lambda wanted, _: started.extend(wanted))
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nbd" else there(name))
    assert run("up", "--only", "guard").exit_code == 0
    assert [part.watchdog_s for part in started] == [parts.GUARD_WATCHDOG_S]
    assert run("up", "--only", "host").exit_code == 3


def test_a_redis_of_the_settings_is_used(run: Run, no_bus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(up, "_run", lambda wanted, _: started.extend(part.name for part in wanted))
    assert run("up", "--no-flower").exit_code == 0
    assert "redis" not in started


def test_a_guard_that_answers_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PROBE_S", 60.0)
    path = tmp_path / "s"
    assert not parts.guard_answers(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                assert b"ping" in connection.recv(100)
                connection.sendall(b'{"v": 1, "ok": true, "why": ""}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        assert parts.guard_answers(path)
        thread.join()


def test_a_free_port_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
