"""Whether a QEMU has a file open is told by its locks: what cannot be told is not taken for free."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import NoReturn

import pytest

from ops.qemu_nbd import serving
from workers.restore.errors import TargetInUseError, TargetUnfitError
from workers.restore.partial import check_free


def refusing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fcntl_refused(_fd: int, command: int, _argument: bytes) -> NoReturn:
        assert command == fcntl.F_OFD_GETLK
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", fcntl_refused)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_file_whose_locks_cannot_be_asked_for_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "vda"
    path.write_bytes(b"a guest's")
    refusing(number, monkeypatch)
    with pytest.raises(TargetUnfitError, match=os.strerror(number)) as caught:
        check_free(path, overwrite=True)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_on_a_file_system_without_locks_nobody_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "vda"
    path.write_bytes(b"old")
    refusing(number, monkeypatch)
    check_free(path, overwrite=True)


def test_a_file_that_qemu_has_open_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "vda"
    path.write_bytes(bytes(1 << 20))
    with serving(tmp_path / "s", path, ["--persistent", "--format=raw"]), pytest.raises(TargetInUseError):
        check_free(path, overwrite=True)
