"""The whole path with a repository in object storage, on a real server; and one that is gone in the midst of a transfer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from ops.lab import Lab
from ops.lab.waiting import wait_for
from ops.object_storage import ObjectStorage
from ops.system import System
from ops.trial.account import Account
from ops.trial.story import Trial
from ops.trial.truth import wait_until_transferring

from .command import Command
from .traces import traces

REPOSITORY = 5
#: One on each host.
GUESTS = ("alpha", "gamma")
WRITTEN_MIB = 6


@pytest.fixture(scope="module")
def storage(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> ObjectStorage:
    """On the bridge's address: in reach of every host."""
    return ObjectStorage(tmp_path_factory.mktemp("storage"), str(lab.address))


@pytest.fixture(scope="module")
def system(lab: Lab, storage: ObjectStorage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Beside the package's own, on the same lab. One transfer at a time, so that there is a midst."""
    env = {"FREEZEFRAME_RUN_DIR": "/run/ff-s3", "FREEZEFRAME_TRANSFERS": "1", "FREEZEFRAME_RELEASE_TIMEOUT_S": "20"}
    with System(lab, tmp_path_factory.mktemp("s3"), env, storage=storage) as running:
        yield running


@pytest.fixture(scope="module")
def account(system: System, tmp_path_factory: pytest.TempPathFactory) -> Account:
    """A full and an incremental capture, both restored and compared with their truth."""
    return Trial(system, tmp_path_factory.mktemp("trial"), print, GUESTS).run(boot=False)


def test_every_byte_comes_back(account: Account) -> None:
    assert account.ok
    assert {guest.host for guest in account.captures[0].guests} == {"host-a", "host-b"}
    assert {kind for guest in account.captures[1].guests for kind in guest.kinds.values()} == {"incremental"}


def test_it_verifies(account: Account, command: Command) -> None:
    for capture in account.captures:
        assert command("verify", capture.capture_id).code == 0


def test_a_server_that_comes_back_is_waited_for(system: System, storage: ObjectStorage, command: Command) -> None:
    capturing = _in_the_midst_of_a_transfer(system, storage, command)
    storage.kill()
    kept_bytes = storage.kept_bytes
    assert capturing.poll() is None
    storage.start()
    outcome = command.finish(capturing)
    assert outcome.code == 0, outcome.stderr
    assert storage.kept_bytes > kept_bytes + (1 << 20)  # much of it came afterwards
    assert outcome.answer["consistency"] == "group"
    assert command("verify", outcome.answer["capture_id"]).code == 0


@pytest.mark.long  # a minute and a half, all of it patience; one that comes back is waited for each time
def test_a_server_that_does_not_come_back_ends_the_capture(
    system: System, storage: ObjectStorage, command: Command
) -> None:
    captures = len(system.repository.manifests())
    capturing = _in_the_midst_of_a_transfer(system, storage, command)
    storage.kill()
    try:
        outcome = command.finish(capturing)
        assert outcome.code == REPOSITORY, outcome.stderr
        assert "the server cannot be reached" in outcome.error["message"]
        assert system.repository_address in outcome.error["message"]
        assert (outcome.error["guest"], outcome.error["disk"]) != (None, None)
        assert [guest.fsfreeze_status() for guest in system.lab.guests.values()] == ["thawed"] * 3
    finally:
        storage.start()
    assert len(system.repository.manifests()) == captures
    # until the repository says that nothing was sealed, hosts keep what a capture would need
    wait_for("recovery to have undone the rest", lambda: not traces(system), 60.0)
    assert command("capture", *GUESTS).code == 0


def _in_the_midst_of_a_transfer(system: System, storage: ObjectStorage, command: Command) -> subprocess.Popen[str]:
    """A capture with something new on every disk, of which the first chunks have been stored."""
    write = f"dd if=/dev/urandom of=/mnt/$disk/new bs=1024k count={WRITTEN_MIB} conv=fsync 2>/dev/null"
    for name in GUESTS:
        system.lab.guest(name).shell(f"for disk in $(ls /mnt); do {write}; done")
    before_bytes = storage.kept_bytes
    capturing = command.begin("capture", *GUESTS)
    wait_until_transferring(system.redis, capturing)
    wait_for("the first chunks", lambda: storage.kept_bytes > before_bytes + (1 << 20), 60.0, 0.005)
    return capturing
