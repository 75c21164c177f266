"""Decide whether all that lies on a disk is reached by a freeze. Pure.

    disk vda ── /dev/vda ┬ /dev/vda1 ── ext4, frozen                       reached
                         ├ /dev/vda2 ┬ /dev/dm-0 ── xfs, frozen            reached if each volume on it is
                         │           └ /dev/dm-1 ── nothing mounted        not reached
                         ├ /dev/vda3 ── nothing mounted                    not reached
                         └ /dev/vda4 ┬ vg-pool_tmeta ┐                     reached, for a thin volume
                                     └ vg-pool_tdata ┴ vg-pool-tpool ┬ vg-root ── ext4, frozen
                                                                     └ vg-pool ── a handle

A device with nothing mounted may be a swap area, a boot loader's, a ZFS pool or a raw database: the agent's list does not tell
them apart, and has mounts of device files only. Where the agent lets us read files, `exemption` tells more. Gaps between
partitions and free room of a volume group have no device in the guest, so nothing is written there while it runs.

The agent lists each device in /sys/block with the devices that it lies on (`slaves`) and the device mapper's name; LVM's hidden
volumes are among them. [qga/commands-linux.c: qmp_guest_get_disks; libvirt: disk.N.guest_alias] Stacks are followed so:

| stack                                              | devices with nothing mounted on top                                  |
|----------------------------------------------------|----------------------------------------------------------------------|
| LVM, LUKS on LVM, LVM on LUKS, MD, LVM RAID, cache | none: images, metadata and cache have the mounted volume above them   |
| bcache, multipath                                  | none, but for partitions that the kernel shows on a path, too         |
| LVM thin pool, LVM VDO pool                        | the pool's handle: see below                                          |
| LVM snapshot (not thin)                            | the snapshot, which may be written to: not reached                    |
| a volume that is active and not mounted            | that volume, which may be a raw database: not reached                 |

A pool in use has a device of its own name, on the layer that its volumes lie on: a handle, by which LVM keeps the pool
active. LVM makes it read-only, and no user's volume has such names. [lvm2 lib/activate/dev_manager.c: read_only_lv, lv_layer]
A pool without a volume on it is not reached: others than LVM may use it, as Docker does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from workers.hypervisor.guest_device import GuestDevice

#: What LVM appends to a pool's name for the layer that its volumes lie on. In the name of a volume a dash is doubled.
_POOL_LAYERS: Final = ("-tpool", "-vpool")


def unreached_reason(target: str, devices: Sequence[GuestDevice] | None, reached: Collection[str]) -> str | None:
    """Return why a freeze may not reach all that is on this disk, None if it does.

    `devices` is None if the agent cannot list them. `reached` are the names of the devices that need no freeze, or have a
    frozen filesystem.
    """
    if devices is None:
        return "the guest's agent cannot list the partitions on it (guest-get-disks, which qemu-ga has from 5.2 on)"
    disks = [device for device in devices if device.disk == target]
    if not disks:
        return "the guest's agent does not list the devices on it"
    if not any(kernel_name(device.name) in reached for device in devices):
        return "the guest's agent does not list the partitions on it"
    loose = unreached_devices([target], devices, reached)
    if not loose:
        return None
    told = {device.name: str(device) for device in devices}
    named = ", ".join(told[name] for name in loose)
    return (
        f"nothing that a freeze reaches is mounted from {named} on it, and the guest's agent does not say that it is no ZFS "
        "pool or raw database"
    )


def unreached_devices(targets: Collection[str], devices: Sequence[GuestDevice], reached: Collection[str]) -> list[str]:
    """Return the uppermost devices on these disks that a freeze does not reach."""
    devices = _without_handles(devices)
    above = _above(devices)
    covered = _covered(devices, above, reached)
    return _uppermost({device.name for device in devices if device.disk in targets} - covered, above, covered)


def _without_handles(devices: Sequence[GuestDevice]) -> list[GuestDevice]:
    """Return the devices but for LVM's own handles of its pools, on which nothing lies."""
    aliases = {device.name: device.alias for device in devices}
    used = {below for device in devices for below in device.below}

    def is_handle(device: GuestDevice) -> bool:
        if device.alias is None or len(device.below) != 1 or device.name in used:
            return False
        return aliases.get(device.below[0]) in {f"{device.alias}{layer}" for layer in _POOL_LAYERS}

    return [device for device in devices if not is_handle(device)]


def _above(devices: Sequence[GuestDevice]) -> dict[str, set[str]]:
    """Return the devices that lie on each device."""
    found: dict[str, set[str]] = {device.name: set() for device in devices}
    for device in devices:
        for below in device.below:
            found.setdefault(below, set()).add(device.name)
    return found


def _covered(devices: Sequence[GuestDevice], above: Mapping[str, set[str]], reached: Collection[str]) -> set[str]:
    """Return the devices that a freeze reaches: by a filesystem on them, or on each of the devices above.

    From the filesystems downwards, so that a guest that tells of devices which lie on each other proves nothing by it.
    """
    below = {device.name: device.below for device in devices}
    missing = {name: set(others) for name, others in above.items()}
    todo = [device.name for device in devices if kernel_name(device.name) in reached]
    covered = set(todo)
    while todo:
        name = todo.pop()
        for lower in below.get(name, ()):
            missing[lower].discard(name)
            if not missing[lower] and lower not in covered:
                covered.add(lower)
                todo.append(lower)
    return covered


def _uppermost(uncovered: set[str], above: Mapping[str, set[str]], covered: Collection[str]) -> list[str]:
    """Return the devices on and above `uncovered` on which nothing lies; `uncovered` itself if there are none."""
    todo, found = list(uncovered), set(uncovered)
    while todo:
        more = above[todo.pop()] - found - set(covered)
        found |= more
        todo += more
    return sorted({name for name in found if not above[name]} or uncovered)


def kernel_name(path: str) -> str:
    """Return a device's name as the agent has it in its list of filesystems: its directory's in /sys."""
    return path.removeprefix("/dev/").replace("/", "!")
