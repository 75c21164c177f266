"""File systems that watch, fail and lose power.

`Watched` keeps a log of every step. `Failing` gives an error at one step of a sort, `Troubled` at one of all. `Dying` dies at
one step: that step and every later one raise PowerCut, and `Device.cut` then takes away what no fsync had made durable, as a
real device may: bytes that were not fsynced, names whose folder was not.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from freezeframe.repository.store.filesystem import Filesystem

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from freezeframe.repository.store.filesystem import StrPath


class PowerCut(BaseException):
    """The process is no more; not an Exception, so that no cleaning up runs."""


@dataclass(frozen=True)
class Step:
    call: str
    path: Path
    target: Path | None = None


class Watched(Filesystem):
    """Logs each step, in order, before it is made; `before` is called with it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Step] = []
        self._open: dict[int, Path] = {}
        self._lock = threading.RLock()

    def before(self, step: Step) -> None:
        """For what fails and dies."""

    def after(self, step: Step, fd: int | None = None) -> None:
        """For what keeps track of a device."""

    def _step(self, call: str, path: StrPath, target: StrPath | None = None) -> Step:
        step = Step(call, Path(path), None if target is None else Path(target))
        self.log.append(step)
        self.before(step)
        return step

    def create(self, path: StrPath) -> int:
        with self._lock:
            self._step("create", path)
            fd = super().create(path)
            self._open[fd] = Path(path)
            return fd

    def write_new(self, fd: int, data: Buffer) -> None:
        with self._lock:
            step = self._step("write", self._open[fd])
            super().write_new(fd, data)
            self.after(step, fd)

    def write(self, fd: int, data: Buffer, offset: int) -> None:
        with self._lock:
            step = self._step("write", self._open[fd])
            super().write(fd, data, offset)
            self.after(step, fd)

    def fsync(self, fd: int) -> None:
        with self._lock:
            step = self._step("fsync", self._open[fd])
            super().fsync(fd)
            self.after(step, fd)

    def rename(self, source: StrPath, target: StrPath) -> None:
        with self._lock:
            step = self._step("rename", source, target)
            if Path(source).exists() and Path(target).parent.exists():  # else it fails
                self.after(step)
            super().rename(source, target)

    def link(self, source: StrPath, target: StrPath) -> None:
        with self._lock:
            step = self._step("link", source, target)
            super().link(source, target)
            self.after(step)

    def unlink(self, path: StrPath) -> None:
        with self._lock:
            step = self._step("unlink", path)
            self.after(step)
            super().unlink(path)

    def remove_folder(self, path: StrPath) -> None:
        with self._lock:
            self._step("remove_folder", path)
            super().remove_folder(path)

    def make_folder(self, path: StrPath) -> None:
        with self._lock:
            self._step("make_folder", path)
            super().make_folder(path)

    def fsync_folder(self, path: StrPath) -> None:
        with self._lock:
            step = self._step("fsync_folder", path)
            super().fsync_folder(path)
            self.after(step)


class Failing(Watched):
    """Raises OSError(number) at the `nth` step (from 0) of that name, and at all later ones if it `stays`."""

    def __init__(self, call: str, number: int, nth: int = 0, *, stays: bool = True) -> None:
        super().__init__()
        self._call, self._number, self._nth, self._stays = call, number, nth, stays

    def before(self, step: Step) -> None:
        if step.call == self._call:
            seen = sum(1 for one in self.log if one.call == self._call) - 1
            if seen == self._nth or (self._stays and seen > self._nth):
                raise OSError(self._number, os.strerror(self._number), str(step.path))


class Troubled(Watched):
    """Raises OSError(number) at the `nth` step (from 0) of any sort, and at all later ones if it `stays`."""

    def __init__(self, number: int, nth: int, *, stays: bool) -> None:
        super().__init__()
        self._number, self._nth, self._stays = number, nth, stays

    def before(self, step: Step) -> None:
        seen = len(self.log) - 1
        if seen == self._nth or (self._stays and seen > self._nth):
            raise OSError(self._number, os.strerror(self._number), str(step.path))


@dataclass(frozen=True)
class Change:
    """A name that was given or taken away. A move is undone as a whole; the fsync of either of its folders makes it durable."""

    name: Path
    kept: Path | None  # what had the name before
    moved_from: Path | None = None


@dataclass
class Device:
    """What a power cut would take away, of a directory that one or more `Dying` write to."""

    root: Path
    dirty: set[int] = field(default_factory=set)  # inodes with bytes that are not fsynced
    names: list[Change] = field(default_factory=list)
    _replaced: int = 0

    def note(self, step: Step, fd: int | None) -> None:
        if fd is not None:
            change = self.dirty.discard if step.call == "fsync" else self.dirty.add
            change(os.fstat(fd).st_ino)
        elif step.target is not None:
            staged = step.path.parent == self.root / "tmp"
            self.names.append(Change(step.target, self._keep(step.target), None if staged else step.path))
        elif step.call == "unlink":
            self.names.append(Change(step.path, self._keep(step.path)))
        elif step.call == "fsync_folder":
            self.names = [one for one in self.names if step.path not in _folders(one)]

    def cut(self, random: Random) -> None:
        """Lose power: each change that is not durable is lost or kept, as chance has it."""
        for change in reversed(self.names):
            if random.random() < 0.5 or not change.name.parent.is_dir():
                continue  # a folder that was taken away was empty for good
            if change.moved_from is not None and change.name.exists():
                change.moved_from.parent.mkdir(parents=True, exist_ok=True)  # its last object may have left it
                change.name.rename(change.moved_from)
            with suppress(FileNotFoundError):
                change.name.unlink()
            if change.kept is not None:
                change.kept.rename(change.name)
        for path in self.root.rglob("*"):
            if path.is_file() and path.stat().st_ino in self.dirty:
                os.truncate(path, random.randrange(path.stat().st_size + 1))

    def _keep(self, name: Path) -> Path | None:
        if not name.exists():
            return None
        self._replaced += 1
        kept = self.root.parent / f"{self.root.name}-replaced"
        kept.mkdir(exist_ok=True)
        os.link(name, kept / str(self._replaced))
        return kept / str(self._replaced)


def _folders(change: Change) -> set[Path]:
    return {one.parent for one in (change.name, change.moved_from) if one is not None}


class Dying(Watched):
    """Makes `steps` steps, then dies. None: it lives."""

    def __init__(self, device: Device, steps: int | None = None) -> None:
        super().__init__()
        self._device, self._steps = device, steps

    def before(self, step: Step) -> None:
        if self._steps is not None and len(self.log) > self._steps:
            raise PowerCut

    def after(self, step: Step, fd: int | None = None) -> None:
        if step.call == "link":  # noted after the fact: a link replaces nothing
            self._device.names.append(Change(step.target or step.path, None))
        else:
            self._device.note(step, fd)
