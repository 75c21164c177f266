"""What `durable.calls` asks of the kernel. The tests beside this one put a device in its place, so they say nothing of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import durable


class Noted:
    """The kernel's calls, in the order in which they are made; each is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        self._patch = monkeypatch
        for name in ("fsync", "ftruncate"):
            self._note_descriptor(name, getattr(os, name))
        for name in ("rename", "hardlink_to", "unlink"):
            self._note_path(name, getattr(Path, name))

    def _note_descriptor(self, name: str, call: Callable[..., None]) -> None:
        def noted(descriptor: int, *rest: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self.calls.append((name, _shown(path)))
            call(descriptor, *rest)

        self._patch.setattr(os, name, noted)

    def _note_path(self, name: str, call: Callable[..., object]) -> None:
        def noted(path: Path, *rest: Path) -> object:
            self.calls.append((name, _shown(path)))
            return call(path, *rest)

        self._patch.setattr(Path, name, noted)


def _shown(path: Path) -> str:
    return "temporary" if path.name.startswith(".new-") else path.name


def test_the_kernel_is_asked_for_each_step_that_a_power_cut_may_fall_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    noted = Noted(monkeypatch)
    durable.append_line(folder / "changes", "{}")
    assert noted.calls == [("fsync", "changes"), ("fsync", "folder")]
    noted.calls.clear()
    durable.append_line(folder / "changes", "{}")
    assert noted.calls == [("fsync", "changes")]
    noted.calls.clear()
    durable.replace(folder / "epoch", "1")
    assert [call for call in noted.calls if call[0] != "unlink"] == [
        ("fsync", "temporary"),
        ("rename", "temporary"),
        ("fsync", "folder"),
    ]
    noted.calls.clear()
    durable.create(folder / "claim", "1")
    assert noted.calls == [
        ("fsync", "temporary"),
        ("hardlink_to", "claim"),
        ("unlink", "temporary"),
        ("fsync", "folder"),
    ]
    noted.calls.clear()
    durable.remove(folder / "claim")
    assert noted.calls == [("unlink", "claim"), ("fsync", "folder")]
    noted.calls.clear()
    durable.make_directory(folder / "new")
    assert noted.calls == [("fsync", "folder")]
    noted.calls.clear()
    durable.sync_directory(folder)
    assert noted.calls == [("fsync", "folder")]


def test_a_part_of_a_line_is_gone_before_the_next_is_written(tmp_path: Path) -> None:
    path = tmp_path / "changes"
    path.write_text('{"n": 1}\n{"change":"scr')
    durable.append_line(path, '{"n": 2}')
    assert path.read_text() == '{"n": 1}\n\n{"n": 2}\n'


@pytest.mark.parametrize(
    ("mode", "umask", "modes"),
    [(durable.PRIVATE, 0o022, (0o711, 0o700)), (durable.PASSABLE, 0o077, (0o711, 0o711))],
)
def test_directories_have_their_modes_whatever_the_umask(
    tmp_path: Path, mode: int, umask: int, modes: tuple[int, int]
) -> None:
    """QEMU's user passes through to its files, and reads nothing of ours."""
    before = os.umask(umask)
    try:
        durable.make_directory(tmp_path / "parent" / "folder", mode)
    finally:
        os.umask(before)
    found = [(tmp_path / name).stat().st_mode & 0o777 for name in ("parent", "parent/folder")]
    assert tuple(found) == modes
