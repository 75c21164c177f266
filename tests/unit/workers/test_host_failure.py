"""The host's own trouble is told as such, and nothing else is."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from workers.host import Host
from workers.steps.host_failure import foreseen


def error(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(path)] if path else []))


def test_a_file_of_the_state_directory_is_told_by_that_directory(host: Host) -> None:
    told = foreseen(host, error(errno.ENOSPC, host.settings.state_dir / "captures" / "x" / ".new-1"))
    assert told is not None
    assert told.message == f"Host host-a cannot use {host.settings.state_dir}: No space left on device."


def test_a_file_elsewhere_is_told_by_its_own_directory(host: Host) -> None:
    told = foreseen(host, error(errno.EROFS, Path("/mnt/x/y")))
    assert told is not None
    assert "/mnt/x:" in told.message
    assert "`findmnt -T /mnt/x`" in told.hint


def test_without_a_file_both_directories_that_a_step_writes_to_are_told(host: Host) -> None:
    told = foreseen(host, error(errno.EIO))
    assert told is not None
    assert f"{host.settings.state_dir} or {host.settings.scratch_dir}:" in told.message


def test_a_directory_with_a_space_can_be_pasted(host: Host, tmp_path: Path) -> None:
    odd = tmp_path / "my state"
    told = foreseen(
        replace(host, settings=host.settings.model_copy(update={"state_dir": odd})), error(errno.ENOSPC), odd
    )
    assert told is not None
    assert f"`df -h '{odd}'`" in told.hint


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_no_further_file_is_told_with_the_limit_to_look_at(host: Host, number: int) -> None:
    told = foreseen(host, error(number))
    assert told is not None
    assert told.code == "no-descriptor"


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        (redis.ReadOnlyError("You can't write against a read only replica."), "name the primary"),
        (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "maxmemory"),
        (redis.ConnectionError("Connection refused."), "does not answer"),
    ],
)
def test_trouble_of_redis_is_told_in_its_words(host: Host, trouble: Exception, word: str) -> None:
    told = foreseen(host, trouble)
    assert told is not None
    assert told.code == "redis"
    assert str(trouble).rstrip(".") in told.message
    assert word in f"{told.message} {told.hint}"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ECONNREFUSED, errno.EINVAL])
def test_other_errors_are_no_trouble_of_the_host(host: Host, number: int) -> None:
    assert foreseen(host, error(number)) is None
    assert foreseen(host, RuntimeError("generator raised StopIteration")) is None
    assert foreseen(host, ValueError("odd")) is None


@pytest.mark.parametrize("raised", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_is_told_as_such(host: Host, raised: Exception) -> None:
    told = foreseen(host, raised)
    assert told is not None
    assert told.code == "no-thread"
