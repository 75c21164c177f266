"""The whole path with an encrypted repository: the same bytes come back, and what is stored says nothing of them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops.lab import Lab
from ops.system import System
from ops.trial.account import Account
from ops.trial.story import Trial
from tests.unit.repository.samples import envelope_of

from .command import Command

REPOSITORY = 5
#: One on each host.
GUESTS = ("alpha", "gamma")
MARKER = b"a sentence that only the guest has written"
#: Amid what does not compress, so that compression hides none of them; whole chunks of it, wherever its file begins.
_WRITE = (
    f"for n in 1 2 3 4 5 6; do head -c 524288 /dev/urandom; printf %s '{MARKER.decode()}'; done >/mnt/vda/marked; sync"
)


@pytest.fixture(scope="module")
def system(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Beside the package's own, on the same lab."""
    env = {"FREEZEFRAME_RUN_DIR": "/run/ff-encrypted"}
    with System(lab, tmp_path_factory.mktemp("encrypted"), env, encrypted=True) as running:
        yield running


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(scope="module")
def account(lab: Lab, system: System, trial: Path) -> Account:
    """A full and an incremental capture, both restored and compared with their truth."""
    lab.guest("alpha").shell(_WRITE)
    return Trial(system, trial, print, GUESTS).run(boot=False)


def test_every_byte_comes_back(account: Account) -> None:
    assert account.ok
    assert [{kind for guest in one.guests for kind in guest.kinds.values()} for one in account.captures] == [
        {"full"},
        {"incremental"},
    ]
    assert {guest.host for guest in account.captures[0].guests} == {"host-a", "host-b"}


def test_it_verifies(account: Account, command: Command) -> None:
    for capture in account.captures:
        assert command("verify", capture.capture_id).code == 0


def test_nothing_of_the_guests_is_in_the_stored_bytes(account: Account, system: System, lab: Lab, trial: Path) -> None:
    restored = trial / f"restored-{account.captures[0].capture_id}" / "alpha-vda.raw"
    assert MARKER in envelope_of(
        _chunk_with_marker(restored, system.repository.config.chunk_bytes)
    )  # else a search proves nothing
    # each of six bytes or more: of four, random ones show some a few times in a hundred runs
    secrets = [MARKER, b"host-a", b"host-b", *(guest.uuid.encode() for guest in lab.guests.values())]
    secrets += [f'"name":"{name}"'.encode() for name in lab.guests] + [f"<name>{name}<".encode() for name in lab.guests]
    files = [path for path in system.repository_path.rglob("*") if path.is_file()]
    assert len(files) > 100
    found = [(path, secret) for path in files for secret in secrets if secret in path.read_bytes()]
    assert found == []


@pytest.mark.parametrize("fault", ["gone", "open to others", "another"])
def test_a_host_without_the_key_refuses_before_a_guest_is_touched(command: Command, system: System, fault: str) -> None:
    key = system.key_file(system.lab.host("host-b"))
    kept = key.read_bytes()
    captures = len(system.repository.manifests())
    try:
        if fault == "gone":
            key.unlink()
        elif fault == "open to others":
            key.chmod(0o640)
        else:
            key.write_bytes(bytes(32))
        outcome = command("capture", *GUESTS)
    finally:
        key.touch(mode=0o600)
        key.chmod(0o600)
        key.write_bytes(kept)
    assert outcome.code == REPOSITORY
    assert outcome.error["code"] == ("wrong-key" if fault == "another" else "secret-unusable")
    assert outcome.error["host"] == "host-b"
    assert outcome.error["guest"] is None  # the host as a whole was refused, in prepare
    assert (str(key) if fault != "another" else str(system.repository_path)) in outcome.error["message"]
    assert len(system.repository.manifests()) == captures


def test_it_says_that_it_is_encrypted(system: System, command: Command) -> None:
    assert command("repo", "info").answer["encrypted"] is True


def _chunk_with_marker(image: Path, chunk_bytes: int) -> bytes:
    """The first chunk of a disk that has the marker in the midst of what does not compress."""
    with image.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        places = []
        at = data.find(MARKER)
        while at >= 0:
            places.append(at // chunk_bytes)
            at = data.find(MARKER, at + 1)
        assert len(set(places)) > 2
        slot = sorted(places)[len(places) // 2]
        return data[slot * chunk_bytes : (slot + 1) * chunk_bytes]
