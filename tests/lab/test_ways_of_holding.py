"""Every kind of hold on real guests, side by side in one capture, and what is claimed of each."""

from __future__ import annotations

from typing import Any

from freezeframe.contract.words import Consistency
from freezeframe.repository import Manifest
from ops.lab.guest import Guest
from ops.system import System

from .command import Command, Outcome

DISKS = ("/mnt/vda", "/mnt/vdb")
REFUSED = 3


def sealed(system: System, outcome: Outcome) -> Manifest:
    assert outcome.code == 0, outcome.stderr
    return system.repository.manifest(outcome.answer["capture_id"])


def mountpoints(guest: str, *paths: str) -> list[str]:
    return [word for path in paths for word in ("--mountpoint", f"{guest}:{path}")]


def holds(manifest: Manifest) -> dict[str, str]:
    assert manifest.proof is not None
    names = {guest.guest_uuid: guest.name for guest in manifest.guests}
    return {names[guest.guest_uuid]: str(guest.hold) for host in manifest.proof.hosts for guest in host.guests}


def labels(manifest: Manifest) -> dict[str, Any]:
    return {guest.name: guest.consistency for guest in manifest.guests}


def test_a_guest_without_an_agent_takes_part_in_one_instant_by_a_pause(
    system: System, command: Command, mute: Guest
) -> None:
    own = ["--guest-hold", "mute:pause", "--guest-hold", "beta:freeze-pause"]
    manifest = sealed(system, command("capture", "alpha", "beta", mute.name, *own))
    assert manifest.consistency is Consistency.GROUP
    assert holds(manifest) == {"alpha": "freeze", "beta": "freeze-pause", "mute": "pause"}


def test_mount_points_that_reach_every_disk_show_one_instant(system: System, command: Command) -> None:
    manifest = sealed(system, command("capture", "alpha", "gamma", *mountpoints("alpha", *DISKS)))
    assert manifest.consistency is Consistency.GROUP
    assert holds(manifest) == {"alpha": "freeze (/mnt/vda, /mnt/vdb)", "gamma": "freeze"}


def test_nothing_is_claimed_of_a_guest_with_a_disk_that_its_mount_points_leave_out(
    system: System, command: Command
) -> None:
    """The policy is `all`: what was asked for has not failed, so the capture is kept, under the label that is proven."""
    manifest = sealed(system, command("capture", "alpha", "gamma", *mountpoints("alpha", DISKS[0])))
    assert labels(manifest) == {"alpha": Consistency.CRASH, "gamma": Consistency.GUEST}
    assert manifest.proof is not None
    alpha = next(guest for host in manifest.proof.hosts for guest in host.guests if guest.moving_disks)
    assert (alpha.moving_disks, alpha.frozen_filesystems) == (("vdb",), 1)


def test_a_disk_that_its_mount_points_leave_out_may_be_left_out_of_the_capture(
    system: System, command: Command
) -> None:
    left_out = [*mountpoints("alpha", DISKS[0]), "--skip-disk", "alpha:vdb"]
    assert sealed(system, command("capture", "alpha", "gamma", *left_out)).consistency is Consistency.GROUP


def test_a_mount_point_with_a_pause_shows_one_instant(system: System, command: Command) -> None:
    own = [*mountpoints("alpha", DISKS[0]), "--guest-hold", "alpha:freeze-pause"]
    assert sealed(system, command("capture", "alpha", "gamma", *own)).consistency is Consistency.GROUP


def test_a_mount_point_that_is_not_there_is_refused_before_anything_is_touched(command: Command) -> None:
    outcome = command("capture", "alpha", "gamma", *mountpoints("alpha", "/nowhere"))
    assert outcome.code == REFUSED
    assert "no filesystem mounted at /nowhere" in outcome.error["message"]
    assert DISKS[0] in outcome.error["advice"]
