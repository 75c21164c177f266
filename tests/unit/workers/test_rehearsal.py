"""The rehearsal: a real child process of QEMU's user, on real directories, for a QEMU that runs as that user."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ops.lab.profile import QEMU_USER
from ops.qemu_export import FakeGuest, running
from workers import as_qemu, durable
from workers.bounded import GuestCalls, ThreadsInUseError
from workers.host import Host
from workers.steps import rehearsal
from workers.steps.rehearsal import (
    RehearsalFailedError,
    ScratchUnreachableError,
    SocketUnreachableError,
    rehearse,
    scratch_refusal,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become QEMU's user")

UUID = "0198c0de-0000-7000-8000-000000000001"
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
_COMPOSE = Path(__file__).parents[3] / "compose.yaml"


@pytest.fixture
def place() -> Iterator[Path]:
    """Everybody may pass through it, as through /var/lib: pytest's own are closed."""
    path = Path(tempfile.mkdtemp(prefix="ff-test-", dir="/var/tmp"))
    path.chmod(durable.PASSABLE)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def host(host: Host, place: Path) -> Host:
    (place / "run").mkdir()
    changes = {"scratch_dir": place / "var" / "scratch", "libvirt_run_dir": place / "run"}
    return replace(host, settings=host.settings.model_copy(update=changes))


@pytest.fixture
def guest(host: Host) -> FakeGuest:
    """Its directory belongs to QEMU's user, as libvirt makes it."""
    made = FakeGuest("alpha", UUID, host.settings.libvirt_run_dir)
    made.directory.mkdir(0o750)
    shutil.chown(made.directory, QEMU_USER, QEMU_USER)
    return made


@pytest.fixture
def start(guest: FakeGuest) -> Iterator[Callable[..., None]]:
    """Start its QEMU as QEMU's user; behind a command, if one is given, that becomes QEMU and begins as root."""

    def started(*before: str) -> None:
        become = ["setpriv", f"--reuid={QEMU_USER}", f"--regid={pwd.getpwnam(QEMU_USER).pw_gid}", "--init-groups"]
        stack.enter_context(running(guest, before=[*before, *become]))

    with ExitStack() as stack:
        yield started


@pytest.fixture
def scratch(host: Host) -> Path:
    """A scratch file as prepare makes it."""
    path = host.scratch_file(CAPTURE, UUID, "vda")
    durable.make_directory(path.parent, durable.PASSABLE)
    path.touch(0o600)
    return path


def tried(host: Host, scratch: Path) -> None:
    rehearse(host, CAPTURE, host.qemu("alpha", UUID), [scratch])


@pytest.mark.case("G1")
def test_what_the_hold_will_need_of_qemus_user_is_given_and_nothing_is_left(
    host: Host, guest: FakeGuest, start: Callable[..., None], scratch: Path
) -> None:
    start()
    tried(host, scratch)
    user = pwd.getpwnam(QEMU_USER)
    assert (scratch.stat().st_uid, scratch.stat().st_gid) == (user.pw_uid, user.pw_gid)
    assert scratch.stat().st_mode & 0o777 == 0o600
    assert list(guest.directory.iterdir()) == []


@pytest.mark.case("G1")
@pytest.mark.parametrize("closed", ["var", "var/scratch", f"var/scratch/{CAPTURE}"])
def test_a_directory_that_qemus_user_cannot_pass_is_named_and_the_printed_command_opens_it(
    host: Host, start: Callable[..., None], scratch: Path, place: Path, closed: str
) -> None:
    start()
    (place / closed).chmod(0o700)
    with pytest.raises(ScratchUnreachableError, match=f"Permission denied at {place / closed}\\.") as told:
        tried(host, scratch)
    command = told.value.hint.split("`")[1]
    assert "FREEZEFRAME_SCRATCH_DIR" in told.value.hint
    subprocess.run(command, shell=True, check=True)  # noqa: S602  as a person would paste it
    tried(host, scratch)


def test_the_printed_command_can_be_pasted_for_any_name(host: Host, start: Callable[..., None], place: Path) -> None:
    odd = place / "it's a; dir $HOME"
    moved = replace(host, settings=host.settings.model_copy(update={"scratch_dir": odd / "scratch"}))
    path = moved.scratch_file(CAPTURE, UUID, "vda")
    durable.make_directory(path.parent, durable.PASSABLE)
    path.touch(0o600)
    odd.chmod(0o700)
    start()
    with pytest.raises(ScratchUnreachableError) as told:
        tried(moved, path)
    subprocess.run(told.value.hint.split("`")[1], shell=True, check=True)  # noqa: S602
    tried(moved, path)


@pytest.mark.case("G1")
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_directory_in_which_qemus_user_can_make_no_socket_is_named(
    host: Host, guest: FakeGuest, start: Callable[..., None], scratch: Path, mode: int
) -> None:
    shutil.chown(guest.directory, "root", "root")
    guest.directory.chmod(mode)
    start()
    with pytest.raises(SocketUnreachableError, match=rf"{guest.directory}/{CAPTURE}\.sock: Permission denied"):
        tried(host, scratch)


def test_a_socket_that_something_has_left_there_is_replaced_as_qemu_does(
    host: Host, guest: FakeGuest, start: Callable[..., None], scratch: Path
) -> None:
    start()
    (guest.directory / f"{CAPTURE}.sock").touch()
    tried(host, scratch)


@pytest.mark.case("G1")
def test_a_file_system_whose_root_is_squashed_is_told_as_such(
    host: Host, start: Callable[..., None], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may not give files away there, and they belong to nobody whom QEMU runs as."""

    def squashed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", squashed)
    start()
    with pytest.raises(ScratchUnreachableError, match="root squash") as told:
        tried(host, scratch)
    assert told.value.hint.startswith("Set FREEZEFRAME_SCRATCH_DIR")


def test_a_file_that_root_may_not_give_away_and_qemu_can_use_is_good_enough(
    host: Host, start: Callable[..., None], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.chmod(0o666)

    def squashed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", squashed)
    start()
    tried(host, scratch)


@pytest.mark.case("G1")
@pytest.mark.parametrize("hides", ["var", "var/scratch"])
def test_a_file_system_that_was_mounted_after_the_guests_start_is_told_as_such(
    host: Host, start: Callable[..., None], place: Path, hides: str
) -> None:
    """QEMU has a mount namespace of its own; without systemd later mounts do not reach it."""
    (place / hides).mkdir(parents=True)
    start("unshare", "--mount", "--propagation", "private")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0711", "freezeframe-test", str(place / hides)], check=True)
    try:
        path = host.scratch_file(CAPTURE, UUID, "vda")
        durable.make_directory(path.parent, durable.PASSABLE)
        path.touch(0o600)
        with pytest.raises(ScratchUnreachableError, match=f"mount namespace is older than the file system at {place}"):
            tried(host, path)
    finally:
        subprocess.run(["umount", str(place / hides)], check=True)


@pytest.fixture
def contained(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the child have the capabilities that compose.yaml gives a worker, and no others; or without one of them."""

    def limit(without: str = "") -> None:
        added = set(yaml.safe_load(_COMPOSE.read_text())["services"]["control"]["cap_add"]) - {without}
        bounds = ",".join(["-all", *(f"+{name.lower()}" for name in sorted(added))])
        launcher = place / "python"
        launcher.write_text(f'#!/bin/sh\nexec setpriv --bounding-set={bounds} -- {sys.executable} "$@"\n')
        launcher.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(launcher))

    return limit


@pytest.mark.case("G1", "G10")
def test_a_workers_container_may_do_what_the_rehearsal_takes(
    host: Host, start: Callable[..., None], scratch: Path, contained: Callable[..., None]
) -> None:
    start("unshare", "--mount")
    contained()
    tried(host, scratch)


@pytest.mark.case("G1", "G10")
def test_a_scratch_directory_that_is_another_one_for_qemu_is_refused(
    host: Host, start: Callable[..., None], scratch: Path, place: Path, contained: Callable[..., None]
) -> None:
    """As in a container that has it at another path than the host: QEMU would open what is not there, in the hold."""
    (place / "other").mkdir()
    elsewhere = f'mount --bind {place}/other {host.settings.scratch_dir} && exec "$@"'
    start("unshare", "--mount", "sh", "-c", elsewhere, "sh")
    contained()
    with pytest.raises(ScratchUnreachableError, match="in a container in which another directory is there") as told:
        tried(host, scratch)
    assert "at the path that it has on the host" in told.value.hint


@pytest.mark.case("G1", "G10")
def test_an_equal_name_on_another_file_system_is_refused(
    host: Host, start: Callable[..., None], scratch: Path, place: Path, contained: Callable[..., None]
) -> None:
    """QEMU could open that file, and the reader would wait for what it writes there."""
    other = place / "other" / CAPTURE / scratch.name
    durable.make_directory(other.parent, durable.PASSABLE)
    (place / "other").chmod(durable.PASSABLE)
    other.touch()
    other.chmod(0o666)
    start(
        "unshare", "--mount", "sh", "-c", f'mount --bind {place}/other {host.settings.scratch_dir} && exec "$@"', "sh"
    )
    contained()
    with pytest.raises(ScratchUnreachableError, match="QEMU sees another file there"):
        tried(host, scratch)


@pytest.mark.case("G1", "G10")
@pytest.mark.parametrize("missing", ["SYS_CHROOT", "SYS_PTRACE", "SETUID", "SETGID"])
def test_a_container_that_may_not_look_for_qemu_is_refused_and_not_taken_for_the_host(
    host: Host, start: Callable[..., None], scratch: Path, contained: Callable[..., None], missing: str
) -> None:
    start("unshare", "--mount")
    contained(missing)
    with pytest.raises(RehearsalFailedError, match=r"Operation not permitted|Permission denied") as told:
        tried(host, scratch)
    assert "compose.yaml" in told.value.hint


def test_a_child_that_does_not_end_is_given_up(
    host: Host, start: Callable[..., None], scratch: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "hangs.py").write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.setattr(as_qemu, "__file__", str(place / "hangs.py"))
    monkeypatch.setattr(rehearsal, "CHILD_S", 0.2)
    start()
    with pytest.raises(ScratchUnreachableError, match=r"has not ended within 0\.2 s"):
        tried(host, scratch)


def test_a_rehearsal_that_no_thread_is_left_for_is_not_called_one_that_hangs(
    host: Host, start: Callable[..., None], scratch: Path
) -> None:
    """The scratch directory has nothing to do with it."""
    start()
    with pytest.raises(ThreadsInUseError):
        tried(replace(host, calls=GuestCalls(most_threads=0)), scratch)


def test_a_rehearsal_that_cannot_be_held_is_told_and_not_taken_for_a_success(
    host: Host, start: Callable[..., None], scratch: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "fails.py").write_text("raise PermissionError('setresuid')\n")
    monkeypatch.setattr(as_qemu, "__file__", str(place / "fails.py"))
    start()
    with pytest.raises(RehearsalFailedError, match="setresuid"):
        tried(host, scratch)


@pytest.mark.parametrize(
    ("at", "number", "refused", "says"),
    [
        ("/a", errno.EACCES, None, "Permission denied at /a."),
        ("/a", errno.ENOENT, None, "older than the file system at /a"),
        ("/a/f", errno.ESTALE, None, "older than the file system at /a/f"),
        ("/a/f", errno.EACCES, PermissionError(errno.EPERM, "No"), "root squash"),
        ("/a/f", errno.EROFS, None, "Read-only"),
    ],
)
def test_each_fault_has_its_words(at: str, number: int, refused: OSError | None, says: str) -> None:
    fault = {"path": "/a/f", "at": at, "number": number, "why": os.strerror(number)}
    told = scratch_refusal("alpha", 64055, fault, refused)
    assert says in told.message
    assert "guest alpha" in told.message
    assert "/a/f" in told.message
    assert told.hint
