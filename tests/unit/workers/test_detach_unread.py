"""Detach of guests whose images cannot be read: what is not known is told, and never called nothing."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.workers.test_detach import ORPHAN, OURS, THEIRS, leftover, stored, typed
from workers import detach
from workers.host import Host
from workers.hypervisor import bitmaps
from workers.hypervisor.fake_checkpoints import CheckpointedGuest
from workers.steps.settling import remove_orphans

__all__ = ["typed"]

pytestmark = pytest.mark.case("G7")

Unreadable = Callable[[Path, int], None]
Verb = Callable[..., tuple[int, str]]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Unreadable]:
    """Have the kernel refuse a file or directory: to root, too, NFS may do that."""
    refused: dict[Path, int] = {}
    real_open, real_iterdir = Path.open, Path.iterdir

    def check(path: Path) -> None:
        if path in refused:
            raise OSError(refused[path], os.strerror(refused[path]), str(path))

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        check(path)
        return real_open(path, *arguments, **options)

    def listed(path: Path) -> Any:
        check(path)
        return real_iterdir(path)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "iterdir", listed)

    def refuse(path: Path, number: int) -> None:
        if number:
            refused[path] = number
        else:
            del refused[path]

    yield refuse
    refused.clear()


@pytest.fixture
def running(tmp_path: Path) -> CheckpointedGuest:
    """As the other tests of detach have it, but for a checkpoint, so that a bitmap is all that there is of ours."""
    return CheckpointedGuest(stored(tmp_path / "odd name.qcow2", ORPHAN, THEIRS), memory=[ORPHAN, THEIRS])


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOENT])
@pytest.mark.parametrize("is_on", [True, False])
def test_an_image_that_cannot_be_read_is_told_by_guest_disk_and_reason(
    host: Host, running: CheckpointedGuest, typed: Verb, unreadable: Unreadable, number: int, *, is_on: bool
) -> None:
    running.running = is_on
    unreadable(running.image, number)
    code, told = typed("--all", "--dry-run")
    assert code == 10
    assert "Nothing of ours" not in told
    (problem,) = detach.look(host, running).problems
    for part in ("Disk vda", "guest alpha", str(running.image), os.strerror(number), "detach again"):
        assert part in problem
    assert ("asks the guest's QEMU" in problem) == is_on
    assert f"`qemu-img info {shlex.quote(str(running.image))}`" in problem  # works when pasted


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_of_a_guest_that_is_off_it_is_told_until_it_can_be_read(
    running: CheckpointedGuest, typed: Verb, unreadable: Unreadable, number: int
) -> None:
    running.running = False
    unreadable(running.image, number)
    code, told = typed("--all", "--yes", "--json")
    assert code == 10
    (guest,) = json.loads(told)["guests"]
    assert guest["problems"] == [guest["unread"][str(running.image)]]
    unreadable(running.image, 0)
    assert bitmaps.in_image(running.image) == [ORPHAN, THEIRS]
    assert typed("--all", "--yes")[0] == 0
    assert bitmaps.in_image(running.image) == [THEIRS]


def test_of_a_guest_that_runs_its_qemu_removes_them(
    running: CheckpointedGuest, typed: Verb, unreadable: Unreadable
) -> None:
    unreadable(running.image, errno.EACCES)
    code, told = typed("--all", "--yes", "--json")
    (guest,) = json.loads(told)["guests"]
    assert (code, guest["problems"]) == (0, [])
    assert guest["bitmaps"] == {"node format of its QEMU": [ORPHAN]}
    assert running.memory == [THEIRS]


def test_a_qemu_that_does_not_tell_leaves_it_unknown(
    running: CheckpointedGuest, typed: Verb, unreadable: Unreadable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object, **__: object) -> None:
        raise OSError(errno.ETIMEDOUT, "no answer")

    monkeypatch.setattr(CheckpointedGuest, "monitor", hangs)
    unreadable(running.image, errno.EACCES)
    code, told = typed("--all", "--yes", "--json")
    assert code == 10
    assert [str(running.image) in one for one in json.loads(told)["guests"][0]["problems"]] == [True, False]


def test_a_checkpoint_stays_while_its_image_cannot_be_read(host: Host, tmp_path: Path, unreadable: Unreadable) -> None:
    off = CheckpointedGuest(stored(tmp_path / "a", OURS, THEIRS), checkpoints=[OURS, THEIRS], running=False)
    file = leftover(host, off)
    unreadable(off.image, errno.EACCES)
    traces = detach.look(host, off)
    detach.remove(host, off, traces)
    assert len(traces.problems) == 2
    assert off.checkpoints == [OURS, THEIRS]
    assert not file.exists()  # the rest goes


@pytest.mark.parametrize("is_gone", [True, False])
def test_an_image_below_that_cannot_be_read_is_told(
    host: Host, tmp_path: Path, unreadable: Unreadable, *, is_gone: bool
) -> None:
    base = stored(tmp_path / "base.qcow2", OURS)
    guest = CheckpointedGuest(stored(tmp_path / "top.qcow2", ORPHAN, backing=base), running=False)
    if is_gone:
        base.rename(tmp_path / "elsewhere")
    else:
        unreadable(base, errno.ESTALE)
    traces = detach.look(host, guest)
    assert traces.bitmaps == {str(guest.image): [ORPHAN]}
    (problem,) = traces.problems
    assert str(base) in problem
    assert ("images below it" in problem) == is_gone
    detach.remove(host, guest, traces)
    assert bitmaps.in_image(guest.image) == []
    assert traces.problems == [problem]


def test_an_image_that_is_cut_off_is_told_once(host: Host, tmp_path: Path) -> None:
    guest = CheckpointedGuest(stored(tmp_path / "a", OURS), running=False)
    guest.image.write_bytes(guest.image.read_bytes()[:103])
    (problem,) = detach.look(host, guest).problems
    assert "cut off" in problem


def test_what_is_no_qcow2_has_none(host: Host, tmp_path: Path) -> None:
    guest = CheckpointedGuest(tmp_path / "raw", running=False)
    guest.image.write_bytes(bytes(4096))
    traces = detach.look(host, guest)
    assert (bool(traces), traces.problems) == (False, [])


@pytest.mark.parametrize("fails", ["not there", "hangs"])
def test_a_qemu_img_that_cannot_be_asked_leaves_images_below_unknown(
    host: Host, running: CheckpointedGuest, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def run(command: list[str], **options: Any) -> None:
        assert command[:4] == ["qemu-img", "info", "-f", "qcow2"]  # never by what the image itself says it is
        if fails == "hangs":
            raise subprocess.TimeoutExpired(command, options["timeout"])
        raise FileNotFoundError(errno.ENOENT, "No such file", "qemu-img")

    monkeypatch.setattr(subprocess, "run", run)
    traces = detach.look(host, running)
    assert traces.bitmaps == {str(running.image): [ORPHAN]}
    (problem,) = traces.problems
    assert "the images below it cannot be told" in problem


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_scratch_files_that_cannot_be_looked_for_are_told(
    host: Host, running: CheckpointedGuest, typed: Verb, unreadable: Unreadable, number: int
) -> None:
    file = leftover(host, running)
    unreadable(file.parent, number)
    code, told = typed("--all", "--yes", "--json")
    assert code == 10
    (problem,) = json.loads(told)["guests"][0]["problems"]
    for part in ("Scratch files of guest alpha", os.strerror(number), str(file.parent)):
        assert part in problem
    unreadable(file.parent, 0)
    assert typed("--all", "--yes")[0] == 0
    assert not file.exists()


@pytest.mark.case("G6")
@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_orphans_in_an_image_that_cannot_be_read_go_when_it_can(
    running: CheckpointedGuest, unreadable: Unreadable, number: int
) -> None:
    unreadable(running.image, number)
    with capture_logs() as logs:
        assert remove_orphans(running, running.disks()) == []
    (line,) = logs
    assert (line["log_level"], line["guest"], line["image"]) == ("warning", "alpha", str(running.image))
    assert line["why"] == os.strerror(number)
    unreadable(running.image, 0)
    assert remove_orphans(running, running.disks()) == [ORPHAN]
    assert running.memory == [THEIRS]
