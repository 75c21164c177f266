from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret
from freezeframe.repository.errors import KeyNotConfigured
from workers import durable
from workers.host import Host, this_host


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Settings of a host whose repository is encrypted; the key file."""
    key_file = tmp_path / "key"
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o600)
    Repository.init(tmp_path / "repository", secret=Secret.key_file(key_file))
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(tmp_path / "repository"))
    for name in ("STATE_DIR", "SCRATCH_DIR", "RUN_DIR"):
        monkeypatch.setenv(f"FREEZEFRAME_{name}", str(tmp_path / name))
    this_host.cache_clear()
    yield key_file
    this_host.cache_clear()


def test_a_host_opens_its_repository_with_the_key_of_its_settings(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(configured))
    assert this_host().open_repository().config.encrypted


def test_a_host_without_a_key_says_so(configured: Path) -> None:
    with pytest.raises(KeyNotConfigured, match="encrypted"):
        this_host().open_repository()


def test_no_secret_is_in_a_hosts_repr(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(configured))
    host: Host = this_host()
    assert repr(configured.read_bytes())[2:-1] not in repr(host)


@pytest.mark.case("G1")
@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_qemus_user_passes_to_the_scratch_files_and_to_nothing_else(
    configured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """Whatever the umask of the service, and although another part has made a directory of ours beside it before."""
    place = tmp_path / "var" / "freezeframe"
    for name in ("state", "scratch"):
        monkeypatch.setenv(f"FREEZEFRAME_{name.upper()}_DIR", str(place / name))
    before = os.umask(umask)
    try:
        durable.make_directory(place / "state")  # as the guard does, which is there first
        this_host()
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (place, place / "state", place / "scratch")}
    assert modes == {place: 0o711, place / "state": 0o700, place / "scratch": 0o711}
    assert stat.S_IMODE((tmp_path / "RUN_DIR").stat().st_mode) == 0o700
