"""Captures again and again, one upon the other, with writers at work: what happens once in fifty times happens here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.repository import Manifest
from ops.system import System
from ops.trial.instant import instant_fault

from .command import Command
from .traces import traces

TIMES = 50


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_captures_in_a_row_each_show_one_instant(
    system: System, command: Command, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Every disk of every capture ends with a record at whose gap the guest was held; nothing is ever left behind."""
    holds_ms, kinds = [], []
    for number in range(TIMES):
        captured = command("capture", "--all")
        assert captured.code == 0, captured.stderr
        assert captured.answer["consistency"] == "group"
        manifest = system.repository.manifest(captured.answer["capture_id"])
        check_instants(system, command, manifest, tmp_path / str(number))
        assert traces(system) == []
        holds_ms += [guest.hold_ms or 0.0 for guest in manifest.guests]
        kinds += [disk.kind for _, disk in manifest.disks()]
    record_property("captures", TIMES)
    record_property("incremental disks", sum(kind == "incremental" for kind in kinds))
    record_property("hold p50 ms", round(sorted(holds_ms)[len(holds_ms) // 2]))
    record_property("hold max ms", round(max(holds_ms)))


def check_instants(system: System, command: Command, manifest: Manifest, directory: Path) -> None:
    """Restore every disk and look at its last record; the images are removed again."""
    assert command("restore", manifest.capture_id, "--to", str(directory), "--format", "raw").code == 0
    assert manifest.proof is not None
    steps = {guest.guest_uuid: guest for host in manifest.proof.hosts for guest in host.guests}
    for guest, disk in manifest.disks():
        image = directory / f"{guest.name}-{disk.target}.raw"
        live = system.lab.guest(guest.name)
        assert instant_fault(live, disk.target, image, steps[guest.guest_uuid]) is None, (guest.name, disk.target)
        image.unlink()
