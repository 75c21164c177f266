"""What `durable` has acknowledged is there after a power cut at any step, and what it has refused harms nothing."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from random import Random

import pytest

from workers import durable

from .power import Device, Dying, PowerCut

#: More steps than any scenario takes; one that ends alive ends the loop.
STEPS = 200

#: Does things and yields, after each, a look that says whether it is there.
Scenario = Callable[[Path], Iterator[Callable[[], bool]]]


def lines(path: Path) -> list[str]:
    """The lines as a reader takes them."""
    *whole, last = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [line for line in whole if line] + ([] if not last or durable.is_torn(last) else [last])


def appending(root: Path) -> Iterator[Callable[[], bool]]:
    durable.make_directory(root / "a" / "b")
    path = root / "a" / "b" / "changes"
    for number in range(3):
        durable.append_line(path, f'{{"n": {number}}}')
        yield lambda number=number: number in [json.loads(line)["n"] for line in lines(path)]  # type: ignore[misc]


def replacing(root: Path) -> Iterator[Callable[[], bool]]:
    durable.make_directory(root / "a")
    path = root / "a" / "epoch"
    for number in range(3):
        durable.replace(path, str(number))
        yield lambda number=number: int(path.read_text()) >= number  # type: ignore[misc]


def creating(root: Path) -> Iterator[Callable[[], bool]]:
    durable.make_directory(root / "a")
    for name in ("one", "two"):
        durable.create(root / "a" / name, name)
        yield lambda name=name: (root / "a" / name).read_text() == name  # type: ignore[misc]


def removing(root: Path) -> Iterator[Callable[[], bool]]:
    durable.make_directory(root / "a")
    durable.create(root / "a" / "one", "one")
    durable.remove(root / "a" / "one")
    yield lambda: not (root / "a" / "one").exists()


SCENARIOS = [appending, replacing, creating, removing]


def play(scenario: Scenario, root: Path, monkeypatch: pytest.MonkeyPatch, seed: int, kind: type[Dying] = Dying) -> None:
    """Cut the power after each step in turn; look whether all that was acknowledged is there; do it all once more."""
    for steps in range(STEPS):
        place = root / f"{seed}-{steps}"
        place.mkdir()
        device = Device(place)
        there: list[Callable[[], bool]] = []
        lived = False
        monkeypatch.setattr(durable, "calls", kind(device, steps))
        with suppress(PowerCut):
            there.extend(scenario(place))
            lived = True
        monkeypatch.setattr(durable, "calls", durable.Calls())
        device.cut(Random(seed * STEPS + steps))  # noqa: S311  the same cut again for the same seed
        assert all(look() for look in there), f"lost after {steps} steps"
        if lived:
            assert steps > 5
            return
        with suppress(FileExistsError):  # what was created before the cut may be there
            assert all(look() for look in scenario(place)), f"not to be done again after {steps} steps"
    pytest.fail("no run came to its end")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_was_acknowledged_survives_a_power_cut(
    scenario: Scenario, seed: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(scenario, memory_path, monkeypatch, seed)


class NoFsync(Dying):
    def fsync(self, descriptor: int) -> None:
        """Forget it."""


class NoFolderFsync(Dying):
    def fsync_folder(self, path: Path) -> None:
        """Forget it."""


@pytest.mark.parametrize("kind", [NoFsync, NoFolderFsync])
@pytest.mark.parametrize("scenario", [appending, replacing, creating])
def test_without_an_fsync_the_test_above_would_fail(
    scenario: Scenario, kind: type[Dying], memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play_all() -> None:
        for seed in range(8):
            play(scenario, memory_path, monkeypatch, seed, kind)

    with pytest.raises((AssertionError, FileNotFoundError, ValueError)):
        play_all()


@pytest.mark.parametrize("seed", range(4))
def test_a_folder_that_a_dead_process_made_is_made_durable_by_the_next(
    seed: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is killed between mkdir and fsync, the second finds the folder; then the power goes."""
    device = Device(memory_path)
    monkeypatch.setattr(durable, "calls", Dying(device, 1))
    with pytest.raises(PowerCut):
        durable.make_directory(memory_path / "folder")
    monkeypatch.setattr(durable, "calls", Dying(device))
    durable.make_directory(memory_path / "folder")
    durable.append_line(memory_path / "folder" / "changes", "{}")
    device.cut(Random(seed))  # noqa: S311
    assert lines(memory_path / "folder" / "changes") == ["{}"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_line_that_does_not_fit_is_refused_and_leaves_the_file_as_it_was(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(durable.Calls):
        times = 0

        def write(self, descriptor: int, data: bytes) -> int:
            self.times += 1
            if self.times == 1:
                return super().write(descriptor, data[:5])
            raise OSError(number, os.strerror(number))

    path = tmp_path / "changes"
    durable.append_line(path, '{"n": 1}')
    with monkeypatch.context() as patch:
        patch.setattr(durable, "calls", Full())
        with pytest.raises(OSError, match=os.strerror(number)):
            durable.append_line(path, '{"n": 2}')
    assert path.read_text() == '\n{"n": 1}\n'
    durable.append_line(path, '{"n": 3}')
    assert lines(path) == ['{"n": 1}', '{"n": 3}']


def test_a_line_that_is_refused_is_not_there_though_all_of_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller makes no change, and nobody may undo one."""

    class Failing(durable.Calls):
        def fsync(self, descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = tmp_path / "changes"
    durable.append_line(path, '{"n": 1}')
    with monkeypatch.context() as patch:
        patch.setattr(durable, "calls", Failing())
        with pytest.raises(OSError, match="Input/output error"):
            durable.append_line(path, '{"n": 2}')
    assert path.read_text() == '\n{"n": 1}\n'


def test_a_line_is_appended_when_no_other_is_being_written(tmp_path: Path) -> None:
    """A part of another's line would be taken for one that a crash left, and cut off."""
    path = tmp_path / "changes"
    durable.append_line(path, '{"n": 1}')
    with path.open("ab") as file:
        flock(file, LOCK_EX)
        file.write(b'\n{"n": ')
        file.flush()
        other = threading.Thread(target=durable.append_line, args=(path, '{"n": 3}'), daemon=True)
        other.start()
        other.join(0.1)
        assert other.is_alive()
        file.write(b"2}\n")
        file.flush()
    other.join()
    assert lines(path) == ['{"n": 1}', '{"n": 2}', '{"n": 3}']


def test_a_replace_that_fails_leaves_what_was_there_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(durable.Calls):
        def write(self, descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    durable.replace(tmp_path / "epoch", "1")
    monkeypatch.setattr(durable, "calls", Full())
    with pytest.raises(OSError, match="No space"):
        durable.replace(tmp_path / "epoch", "2")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch"]
    assert (tmp_path / "epoch").read_text() == "1"


@pytest.mark.parametrize("torn", ['{"change":"scratch","guest_uu', "\0" * 40, '{"a": "\ufffd'])
def test_a_part_of_a_line_is_cut_off_before_the_next(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "changes"
    durable.append_line(path, '{"n": 1}')
    with path.open("a") as file:
        file.write(torn)
    durable.append_line(path, '{"n": 2}')
    assert [line for line in path.read_text().split("\n") if line] == ['{"n": 1}', '{"n": 2}']


def test_a_whole_line_whose_newline_was_lost_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "changes"
    path.write_text('{"n": 1}')
    durable.append_line(path, '{"n": 2}')
    assert path.read_text().split("\n") == ['{"n": 1}', '{"n": 2}', ""]


def test_sweeping_removes_what_crashes_left_and_not_what_is_being_written(tmp_path: Path) -> None:
    folder = tmp_path / "captures" / "one"
    folder.mkdir(parents=True)
    for name in (".new-old", ".new-young", "changes"):
        (folder / name).write_text("x")
    old = (folder / ".new-old").stat().st_mtime - durable.STALE_S - 1
    os.utime(folder / ".new-old", (old, old))
    os.utime(folder / "changes", (old, old))
    durable.sweep(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [".new-young", "changes"]


def test_unreadable_is_not_absent(tmp_path: Path) -> None:
    assert durable.read(tmp_path / "nothing") is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        durable.read(tmp_path / "folder")
