"""A device that loses power: what no fsync has made durable may be gone, or be there in part.

`Dying` makes a number of steps and dies: that step and every later one raise PowerCut. `Device.cut` then takes away what a real
device may take: bytes after the last fsync of a file (the tail is missing, or zeros), names whose folder was not fsynced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from workers import durable


class PowerCut(BaseException):
    """The process is no more; not an Exception, so that no cleaning up runs."""


@dataclass(frozen=True)
class Change:
    """A name that was given or taken away, and how the device forgets that."""

    folder: Path
    forget: Callable[[], None]


@dataclass
class Device:
    """What a power cut would take away of the files below `root`."""

    root: Path
    durable_bytes: dict[int, int] = field(default_factory=dict)  # of inodes with bytes that are not fsynced
    changes: list[Change] = field(default_factory=list)
    _kept: int = 0

    def cut(self, random: Random) -> None:
        """Lose power. Each change that is not durable is lost or kept, as chance has it."""
        for change in reversed(self.changes):
            if random.random() < 0.5 and change.folder.is_dir():
                change.forget()
        for path in self.root.rglob("*"):
            if path.is_file() and (status := path.stat()).st_ino in self.durable_bytes:
                keep = random.randint(self.durable_bytes[status.st_ino], status.st_size)
                os.truncate(path, keep)
                if random.random() < 0.25:
                    os.truncate(path, status.st_size)  # the size became durable, the bytes did not
        self.changes.clear()
        self.durable_bytes.clear()

    def keep(self, path: Path) -> Path | None:
        """Another name for what is at `path`, from which it can come back."""
        if not path.exists():
            return None
        folder = self.root.parent / f"{self.root.name}-kept"
        folder.mkdir(exist_ok=True)
        self._kept += 1
        os.link(path, folder / str(self._kept))
        return folder / str(self._kept)


class Dying(durable.Calls):
    """Makes `steps` steps, then dies. None: it lives."""

    def __init__(self, device: Device, steps: int | None = None) -> None:
        self._device, self._left = device, steps

    def _step(self) -> None:
        if self._left is not None:
            if self._left == 0:
                raise PowerCut
            self._left -= 1

    def _changed(self, name: Path, forget: Callable[[], None]) -> None:
        self._device.changes.append(Change(name.parent, forget))

    def create(self, path: Path) -> int:
        self._step()
        descriptor = super().create(path)
        self._changed(path, lambda: path.unlink(missing_ok=True))
        return descriptor

    def open_append(self, path: Path) -> int:
        self._step()
        new = not path.exists()
        descriptor = super().open_append(path)
        if new:
            self._changed(path, lambda: path.unlink(missing_ok=True))
        return descriptor

    def write(self, descriptor: int, data: bytes) -> int:
        self._step()
        status = os.fstat(descriptor)
        self._device.durable_bytes.setdefault(status.st_ino, status.st_size)
        return super().write(descriptor, data[: max(1, len(data) // 2)])  # a short write is no error

    def truncate(self, descriptor: int, size: int) -> None:
        self._step()
        super().truncate(descriptor, size)
        known = self._device.durable_bytes
        inode = os.fstat(descriptor).st_ino
        known[inode] = min(known.get(inode, size), size)

    def fsync(self, descriptor: int) -> None:
        self._step()
        super().fsync(descriptor)
        self._device.durable_bytes.pop(os.fstat(descriptor).st_ino, None)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        before = self._device.keep(target)
        super().rename(source, target)
        self._changed(target, lambda: self._rename_back(source, target, before))

    @staticmethod
    def _rename_back(source: Path, target: Path, before: Path | None) -> None:
        with suppress(FileNotFoundError):
            target.rename(source)
        if before is not None:
            before.rename(target)

    def link(self, source: Path, target: Path) -> None:
        self._step()
        super().link(source, target)
        self._changed(target, lambda: target.unlink(missing_ok=True))

    def unlink(self, path: Path) -> None:
        self._step()
        before = self._device.keep(path)
        super().unlink(path)
        if before is not None:
            self._changed(path, lambda: os.replace(before, path))  # noqa: PTH105

    def make_folder(self, path: Path, mode: int) -> None:
        self._step()
        new = not path.exists()
        super().make_folder(path, mode)
        if new:
            self._changed(path, lambda: shutil.rmtree(path, ignore_errors=True))

    def fsync_folder(self, path: Path) -> None:
        self._step()
        super().fsync_folder(path)
        self._device.changes = [change for change in self._device.changes if change.folder != path]
