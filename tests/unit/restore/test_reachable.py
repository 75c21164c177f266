"""Guests that are defined upon restored disks can start: QEMU's user reaches the disks, or the restore is refused."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.lab.profile import QEMU_USER
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.loan import Loan
from workers.restore import reachable
from workers.restore.reachable import TargetUnreachableError, check_reachable
from workers.restore.room import make_directory

pytestmark = [
    pytest.mark.case("G1"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become QEMU's user"),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """As everybody may pass through /var/lib: pytest's own directories are closed."""
    path = Path(tempfile.mkdtemp(prefix="ff-test-", dir="/var/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def user() -> tuple[int, int]:
    found = pwd.getpwnam(QEMU_USER)
    return found.pw_uid, found.pw_gid


def test_a_directory_that_qemus_user_cannot_pass_is_refused_and_the_printed_command_opens_it(
    place: Path, user: tuple[int, int]
) -> None:
    closed = place / "it's closed"
    (closed / "restored").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(TargetUnreachableError, match="cannot pass through") as told:
        check_reachable(closed / "restored", user)
    assert str(closed) in told.value.message
    subprocess.run(told.value.hint.split("`")[1], shell=True, check=True)  # noqa: S602  as a person would paste it
    check_reachable(closed / "restored", user)


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_what_a_restore_makes_itself_can_be_passed(place: Path, user: tuple[int, int], umask: int) -> None:
    wanted = place / "not" / "there" / "yet"
    check_reachable(wanted, user)
    before = os.umask(umask)
    try:
        make_directory(wanted)
    finally:
        os.umask(before)
    check_reachable(wanted, user)


def test_the_directory_above_what_is_not_there_counts(place: Path, user: tuple[int, int]) -> None:
    place.chmod(0o700)
    with pytest.raises(TargetUnreachableError, match=str(place)):
        check_reachable(place / "not" / "there", user)


@pytest.fixture
def first(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Start a process that sees other file systems, in place of process 1."""
    with ExitStack() as running:

        def start(script: str) -> None:
            words = ["unshare", "--mount", "sh", "-ec", f"{script}\necho started; exec cat"]
            process = running.enter_context(
                subprocess.Popen(words, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            monkeypatch.setattr(reachable, "_FIRST_PROCESS", process.pid)

        yield start


@pytest.mark.case("G10")
@pytest.mark.parametrize("wanted", ["own", "own/not/there"])
@pytest.mark.parametrize(
    "script", ["mount --bind {place}/other {place}/own", "mount -t tmpfs -o mode=0711 freezeframe-test {place}"]
)
def test_a_directory_of_a_container_that_the_host_does_not_have_is_refused(
    place: Path, user: tuple[int, int], first: Callable[[str], None], script: str, wanted: str
) -> None:
    """The guest would be defined upon disks that go with the container."""
    for name in ("own", "other"):
        (place / name).mkdir(0o711)
        (place / name).chmod(0o711)
    check_reachable(place / wanted, user)
    first(script.format(place=place))
    with pytest.raises(TargetUnreachableError, match=rf"for the host, {place}(/own)? is not the directory") as told:
        check_reachable(place / wanted, user)
    assert "from the host, at the same path" in told.value.hint


@pytest.mark.case("G10")
def test_a_directory_that_a_container_has_from_the_host_is_reached(
    place: Path, user: tuple[int, int], first: Callable[[str], None]
) -> None:
    first("true")
    check_reachable(place, user)


def test_where_the_first_process_cannot_be_looked_at_the_own_view_counts(
    place: Path, user: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "_FIRST_PROCESS", 0)  # there is none
    check_reachable(place, user)
    place.chmod(0o700)
    with pytest.raises(TargetUnreachableError, match="cannot pass through"):
        check_reachable(place, user)


def test_where_libvirt_names_no_user_nothing_is_claimed(place: Path) -> None:
    place.chmod(0o700)
    check_reachable(place, None)


@pytest.mark.parametrize(
    ("models", "user"),
    [
        (
            "<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+64055</baselabel></secmodel>",
            (64055, 64055),
        ),
        (
            "<secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model><baselabel>+107:+36</baselabel></secmodel>",
            (107, 36),
        ),
        ("<secmodel><model>dac</model></secmodel>", None),
        ("", None),
    ],
)
def test_qemus_user_is_what_libvirts_capabilities_say(
    models: str, user: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Connection:
        def getCapabilities(self) -> str:  # noqa: N802  libvirt's name
            return f"<capabilities><host>{models}</host></capabilities>"

    monkeypatch.setattr(Hypervisor, "lend", lambda _: Loan(Connection()))
    assert Hypervisor("test:///default").qemu_user() == user
