"""A kernel that tells of block devices: a copy of /sys in which devices hold each other as the real ones do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest


class Kernel:
    """Block devices: each has a directory in a copy of /sys, and a node `/dev/NAME` that `stat` finds."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sys, self.nodes = root / "sys", dict[str, int]()
        (self.sys / "dev/block").mkdir(parents=True)
        (self.sys / "block").mkdir()
        real = Path.stat

        def find(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            if (device := self.nodes.get(str(path))) is None:
                return real(path, follow_symlinks=follow_symlinks)
            return os.stat_result((stat.S_IFBLK | 0o660, 1, 5, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": device})

        monkeypatch.setattr(Path, "stat", find)
        resolve = os.path.realpath
        monkeypatch.setattr(
            os.path, "realpath", lambda path, **how: path if str(path) in self.nodes else resolve(path, **how)
        )

    def add(self, name: str, *, on: tuple[str, ...] = (), part_of: str = "", **files: str) -> str:
        """Make a device that lies on others, and return its node."""
        number = len(self.nodes) + 1
        parent = self.directory(part_of) if part_of else self.sys / "devices"
        own = parent / name
        own.mkdir(parents=True)
        for file, text in files.items():
            path = own / file.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n", encoding="utf-8")
        if part_of:
            (own / "partition").write_text(f"{name.removeprefix(part_of).lstrip('p')}\n", encoding="utf-8")
        (self.sys / "dev/block" / f"252:{number}").symlink_to(own)
        if not part_of:
            (self.sys / "block" / name).symlink_to(own)
        for lower in on:
            (own / "slaves").mkdir(exist_ok=True)
            (own / "slaves" / lower).symlink_to(self.directory(lower))
            holders = self.directory(lower) / "holders"
            holders.mkdir(exist_ok=True)
            (holders / name).symlink_to(own)
        self.nodes[f"/dev/{name}"] = os.makedev(252, number)
        return f"/dev/{name}"

    def directory(self, name: str) -> Path:
        return next(path for path in (self.sys / "devices").rglob(name) if not path.is_symlink())
