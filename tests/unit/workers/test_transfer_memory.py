"""A transfer's memory is bounded, and the bound does not grow with the disk: a disk of 1 TiB, served by a real qemu-nbd.

The bound: 128 MiB on top of what a process has that has only imported the transfer. In it are three chunks a thread, what the
writer may queue, what compression and encryption need, and 65,536 digests that the writer remembers.

`ops/bench memory` measures the same, from 1 GiB on.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret
from ops.measure.memory import CAPTURE, GUEST, environment, make_disk, measured, served, store_dense

MIB = 1 << 20
TIB = 1 << 40
BOUND_MIB = 128
#: A table of 1 TiB has 32 MiB, and a piece of it 1; a reader's threads and OpenSSL take 8 to 17 with any disk.
OPEN_BOUND_MIB = 28


def made(directory: Path, *, encrypted: bool) -> tuple[Repository, Path | None]:
    """A repository, and the key file for it."""
    if not encrypted:
        return Repository.init(directory / "repository"), None
    key_file = directory / "key"
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o600)
    return Repository.init(directory / "repository", secret=Secret.key_file(key_file)), key_file


@pytest.mark.parametrize(
    ("size_bytes", "data_mib", "encrypted"),
    [(256 * MIB, 64, False), (TIB, 512, False), (TIB, 256, True)],
    ids=["256 MiB", "1 TiB", "1 TiB encrypted"],
)
def test_memory_is_bounded_whatever_the_size_of_the_disk(
    tmp_path: Path,
    redis_url: str,
    size_bytes: int,
    data_mib: int,
    encrypted: bool,  # noqa: FBT001
) -> None:
    repository, key_file = made(tmp_path, encrypted=encrypted)
    repository.sessions.begin(CAPTURE, "test")
    make_disk(tmp_path / "disk", size_bytes, data_mib)
    with served(tmp_path):
        env = environment(tmp_path, redis_url, key_file)
        found = measured(env, "transfer", CAPTURE, GUEST, str(size_bytes))
    assert found["bytes_read"] == data_mib * MIB
    assert 0 < found["grown_mib"] < BOUND_MIB


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_capture_of_a_tebibyte_is_opened_without_its_table_in_memory(
    tmp_path: Path,
    redis_url: str,
    encrypted: bool,  # noqa: FBT001
) -> None:
    """Every slot of it is used."""
    repository, key_file = made(tmp_path, encrypted=encrypted)
    index = store_dense(repository, TIB).digest
    found = measured(environment(tmp_path, redis_url, key_file), "open", index)
    assert 0 < found["grown_mib"] < OPEN_BOUND_MIB
