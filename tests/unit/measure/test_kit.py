"""The copy of the kit that each lab boots its guests from."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ops.lab.kit import Kit


def test_a_labs_own_kit_has_none_of_the_attributes_that_a_killed_host_leaves(tmp_path: Path) -> None:
    """In them libvirt counts who uses a file, and refuses it to a QEMU of another user for as long as the machine is up."""
    kit = Kit(tmp_path / "cached")
    kit.directory.mkdir()
    for path in (kit.kernel, kit.initramfs):
        path.write_bytes(path.name.encode())
        path.chmod(0o600)
    try:
        os.setxattr(kit.kernel, "trusted.libvirt.security.ref_dac", b"1")
    except OSError:
        pytest.skip("this file system or this user has no trusted attributes")
    kit.copy_to(tmp_path / "own")
    own = Kit(tmp_path / "own")
    assert [path.read_bytes() for path in (own.kernel, own.initramfs)] == [b"vmlinuz", b"initramfs"]
    assert os.listxattr(own.kernel) == []
    assert stat.S_IMODE(own.kernel.stat().st_mode) == 0o644
