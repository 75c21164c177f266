"""A repository in a directory that several users of one group share: root on the hosts and the control node's own user."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.store.address import create_store, open_store

SHARED, CLOSED = 0o2770, 0o750
GROUP = 951


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual one, which takes the group's right to write away."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(root: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_dir()}


@pytest.mark.usefixtures("umask")
def test_all_of_the_group_of_a_shared_directory_write_in_every_folder(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    root.chmod(SHARED)
    Repository.init(root)
    assert modes(root) == {SHARED}
    store = open_store(root)
    store.put_many([("chunks/00/" + "0" * 64, b"chunk")])
    store.move("chunks/00/" + "0" * 64, "condemned/01KAAAAAAAAAAAAAAAAAAAAAAA/chunks/00/" + "0" * 64)
    assert modes(root) == {SHARED}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mode", [0o755, 0o775, 0o2755, 0o700])
def test_a_directory_that_is_not_shared_shares_nothing(tmp_path: Path, mode: int) -> None:
    """Handing on a group is not enough, and neither is a group that may write."""
    root = tmp_path / "repository"
    root.mkdir()
    root.chmod(mode)
    create_store(root)
    assert {one & ~stat.S_ISGID for one in modes(root)} == {CLOSED}


@pytest.mark.usefixtures("umask")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for another user")
def test_the_groups_user_reads_and_removes_what_root_has_written(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    os.chown(root, GROUP, GROUP)
    root.chmod(SHARED)
    store = create_store(root)
    name = "indexes/ab/" + "ab" * 32
    store.put_many([(name, b"index")])
    found = (root / name).stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, GROUP, 0o640)
    # in that directory, because pytest's own ones above it are closed
    script = f"cat {name} && mv {name} tmp/moved && rm tmp/moved"
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=root,
        user=GROUP,
        group=GROUP,
        extra_groups=(),
        capture_output=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"index", b"")
