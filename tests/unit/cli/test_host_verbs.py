"""The verbs of a host, on libvirt's own test driver: the red buttons, and the options that the workers start with."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from freezeframe.cli import parts
from freezeframe.contract.words import HoldKind
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, HostSettings
from orchestrator.commands import worker_options as orchestrator_options
from workers import app as worker_app
from workers import step_pool
from workers.commands.guard import LOOK_S
from workers.commands.worker import Role, worker_options
from workers.guard.client import GuardError, GuardLine
from workers.guard.lease import LeasedGuest, LeaseFiles
from workers.host import this_host
from workers.journal import ClaimChange, Journal

from .manifests import capture_id
from .run import Run
from .test_supervise import until

NOBODY = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"
TEST_GUEST = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # the one guest of libvirt's test driver


def test_thaw_all_asks_every_guest(run: Run, place: Path) -> None:
    """The test driver knows no agents, so it is not certain that its guest is thawed, and thaw says so."""
    ran = run("thaw", "--all", "--json")
    assert ran.exit_code == 10
    (guest,) = ran.document["guests"]
    assert (guest["guest"], guest["was"]) == ("test", "running")
    assert run("thaw", "test", TEST_GUEST).exit_code == 10


def test_thaw_of_a_guest_that_is_not_here(run: Run, place: Path) -> None:
    ran = run("thaw", "nobody", "--json")
    assert ran.exit_code == 4
    assert ran.document["error"]["code"] == "guest-gone"


def test_thaw_wants_to_be_told_whom(run: Run, place: Path) -> None:
    assert run("thaw").exit_code == 2
    assert run("thaw", "test", "--all").exit_code == 2


def test_thaw_leaves_the_guard_its_lease(run: Run, guard: subprocess.Popen[bytes]) -> None:
    settings = HostSettings()
    with GuardLine(settings.guard_socket) as line:
        line.arm(capture_id(1), [LeasedGuest(guest_uuid=TEST_GUEST, hold=HoldKind.PAUSE)], 600)
        run("thaw", "test")
        assert line.disarm(capture_id(1))


@pytest.fixture(autouse=True)
def fresh_host() -> None:
    """A process opens its host once; each test has a place of its own for it."""
    this_host.cache_clear()


def test_recover_with_nothing_to_do(run: Run, place: Path, bus: object) -> None:
    assert run("recover").exit_code == 0
    assert run("recover", "--force", "--json").document == {"captures": []}


def test_recover_without_redis_says_so_and_what_to_do(run: Run, no_bus: None, repository: Repository) -> None:
    journal = Journal(HostSettings().state_dir).of(capture_id(1))
    journal.record(ClaimChange(guest_uuid=TEST_GUEST))
    ran = run("recover", "--json")
    assert (ran.exit_code, ran.document["captures"][0]["state"]) == (6, "unknown")
    table = run("recover")
    assert table.exit_code == 6
    assert "Redis does not answer" in table.stdout
    assert "--force" in table.stdout
    ran = run("recover", "--force", "--json")
    assert (ran.exit_code, ran.document["captures"][0]["state"]) == (0, "undone")


@pytest.fixture
def guard(place: Path) -> object:
    """A guard as its supervisor starts it."""
    argv = [sys.executable, "-m", "freezeframe", "guard"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=dict(os.environ)) as process:
        until(lambda: parts.guard_answers(HostSettings().guard_socket))
        yield process
        process.kill()


def test_a_guard_may_open_as_many_files_as_the_host_lets_it(guard: subprocess.Popen[bytes]) -> None:
    """The usual soft limit of 1,024 is reached by some 230 guests."""
    soft, hard = resource.prlimit(guard.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_a_guard_ends_when_it_is_told_and_nobody_is_held(guard: subprocess.Popen[bytes]) -> None:
    guard.send_signal(signal.SIGTERM)
    assert guard.wait() == 0


def test_a_guard_that_was_stopped_for_a_while_goes_on(guard: subprocess.Popen[bytes]) -> None:
    """As a machine that is suspended stops it: for longer than it waits at a time."""
    guard.send_signal(signal.SIGSTOP)
    time.sleep(2 * LOOK_S)
    guard.send_signal(signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        guard.wait(2 * LOOK_S)
    with GuardLine(HostSettings().guard_socket) as line:
        line.ping()
    guard.send_signal(signal.SIGTERM)
    assert guard.wait() == 0


def test_a_guard_does_not_end_while_a_guest_is_held(guard: subprocess.Popen[bytes]) -> None:
    settings = HostSettings()
    with GuardLine(settings.guard_socket) as line:
        line.arm(capture_id(1), [LeasedGuest(guest_uuid=TEST_GUEST, hold=HoldKind.PAUSE)], 600)
        guard.send_signal(signal.SIGTERM)
        waiting = threading.Event()
        assert not waiting.wait(0.5)
        assert guard.poll() is None
        with pytest.raises(GuardError, match="stopping"):
            line.ping()
    # the line is closed and the guest let go; a call of the worker's may still be pending
    assert not waiting.wait(0.5)
    assert guard.poll() is None
    guard.send_signal(signal.SIGTERM)
    assert guard.wait() == -signal.SIGTERM


@pytest.mark.long
def test_a_guard_ends_when_no_call_can_be_pending_that_holds_a_guest(guard: subprocess.Popen[bytes]) -> None:
    settings = HostSettings()
    with GuardLine(settings.guard_socket) as line:
        line.arm(capture_id(1), [LeasedGuest(guest_uuid=TEST_GUEST, hold=HoldKind.PAUSE)], 600)
    guard.send_signal(signal.SIGTERM)
    assert guard.wait() == 0
    assert LeaseFiles(settings.state_dir).all() == []


def test_a_guard_told_twice_ends_at_once_and_the_next_one_takes_up_its_lease(guard: subprocess.Popen[bytes]) -> None:
    settings = HostSettings()
    with GuardLine(settings.guard_socket) as line:
        line.arm(capture_id(1), [LeasedGuest(guest_uuid=TEST_GUEST, hold=HoldKind.PAUSE)], 600)
        guard.send_signal(signal.SIGTERM)
        until(lambda: not parts.guard_answers(settings.guard_socket))  # it has taken notice
        guard.send_signal(signal.SIGTERM)
        assert guard.wait() == -signal.SIGTERM
    assert [lease.capture_id for lease in LeaseFiles(settings.state_dir).all()] == [capture_id(1)]
    with subprocess.Popen(guard.args, stderr=subprocess.DEVNULL, env=dict(os.environ)) as following:
        until(lambda: parts.guard_answers(settings.guard_socket))
        with GuardLine(settings.guard_socket) as line:
            assert not line.disarm(capture_id(1))  # let go of, so that it does not count as having stood
        until(lambda: LeaseFiles(settings.state_dir).all() == [])
        following.send_signal(signal.SIGTERM)
        assert following.wait() == 0


def test_options_of_the_workers(place: Path) -> None:
    settings = HostSettings()
    control, data = (" ".join(worker_options(role, settings)) for role in (Role.CONTROL, Role.DATA))
    queues = "host.host-a.example.control,host.host-a.example.hold"
    assert f"-c 16 -Q {queues} -n control@host-a.example" in control
    assert f"-P prefork -c {settings.transfers} -Q host.host-a.example.data -n data@host-a.example" in data
    assert "-P threads -c 8 -Q orchestrator -n orchestrator@h" in " ".join(orchestrator_options("h"))
    for options in (control, data, " ".join(orchestrator_options("h"))):
        assert "-E --without-gossip --without-mingle --heartbeat-interval 10" in options


def test_the_control_worker_has_threads_for_each_step(
    run: Run, place: Path, bus: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[object] = []
    monkeypatch.setattr("freezeframe.bus.run_worker", lambda app, _options: pools.append(app.conf.worker_pool))
    monkeypatch.setitem(worker_app.app.conf, "worker_pool", "prefork")  # as before, when the test is over
    monkeypatch.setitem(worker_app.app.conf, "worker_prefetch_multiplier", 1)
    assert run("worker", "data").exit_code == 0
    assert run("worker", "control").exit_code == 0
    assert pools == ["prefork", step_pool.NAME]


@pytest.mark.case("S3")
@pytest.mark.parametrize("verb", [["orchestrator"], ["worker", "control"], ["worker", "data"]])
def test_no_service_starts_with_a_redis_that_evicts(run: Run, place: Path, bus: BusSettings, verb: list[str]) -> None:
    Repository.init(place / "repository")
    with redis.Redis.from_url(bus.redis_url.get_secret_value()) as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        try:
            ran = run(*verb)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert ran.exit_code == 3
    assert "`maxmemory-policy` of this Redis is volatile-lru" in ran.stderr


@pytest.mark.parametrize("verb", [["orchestrator"], ["worker", "control"]])
def test_a_service_with_a_wrong_setting_says_which(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.setenv("FREEZEFRAME_HOST_ID", "no host")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(place / "none"))
    ran = run(*verb)
    assert ran.exit_code in {1, 5}
    assert ran.stderr.startswith("error: ")
