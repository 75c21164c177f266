"""Restores that are interrupted, and ones that die: a child of this process, killed at its nth step that changes anything."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from freezeframe.repository import Repository
from workers.restore import block_device, descriptor, image, nbd_export
from workers.restore.disk import DiskPart, restore_disk

#: What changes a file or a folder. Path's own methods end here too.
_STEPS = ("pwrite", "fsync", "rename", "link", "unlink", "ftruncate")


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in a child that is killed before its nth step. Whether it lived to the end; raises if it failed otherwise."""
    child = os.fork()
    if not child:
        status = 1
        try:
            _die_at(step)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in {0, -signal.SIGKILL}
    return os.waitstatus_to_exitcode(status) == 0


def interrupted(repository: Repository, part: DiskPart, mark_bytes: int) -> int:
    """Interrupt a restore when it has a mark; the mark. With one lane, so that it has one before its end."""

    def on_progress(_done: int, _total: int) -> None:
        if part.progress.seen(part.index):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        for module in (image, block_device, nbd_export):
            patch.setattr(module, "LANES", 1)
        with pytest.raises(KeyboardInterrupt):
            restore_disk(repository, part, mark_bytes=mark_bytes, on_progress=on_progress)
    return part.progress.seen(part.index)


def _die_at(step: int) -> None:
    """Only in a child: what is replaced here is never put back."""
    left = [step]
    lock = threading.Lock()

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            with lock:
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
            return call(*arguments, **more)

        return counted

    for name in _STEPS:
        setattr(os, name, counting(getattr(os, name)))
    if descriptor._fallocate is not None:
        descriptor._fallocate = counting(descriptor._fallocate)  # type: ignore[assignment]
