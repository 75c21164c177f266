"""Decide what becomes of devices, beside a guest's disks, on which data lies that QEMU cannot back up. Pure.

| the device                          | then                                                                                |
|-------------------------------------|-------------------------------------------------------------------------------------|
| holds data of the guest's own       | refused, unless the caller leaves it out by name, as a disk that cannot be captured |
| may hold data, or is a share        | captured without, and the receipt says so                                           |
| holds none, or is read-only         | nothing is said                                                                     |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from freezeframe.contract.result import SkippedDisk
from freezeframe.naming import NamedGuest
from workers.fitness.leaving_out import left_out, not_capturable
from workers.hypervisor.passed_through import PassedDevice

#: Each device with whether it holds data; None if that cannot be told.
Passed = Mapping[PassedDevice, bool | None]


def left_out_devices(guest: NamedGuest, passed: Passed, skip: Iterable[str]) -> list[SkippedDisk]:
    """Return the devices with data that the caller leaves out. Raises DiskNotCapturableError for any other with data."""
    agreed, found = set(skip), []
    for device in passed:
        if device.name in agreed:
            found.append(left_out(device.name))
        elif _has_own_data(device, passed[device]):
            raise not_capturable(guest, device.name, f"it is {_named(device)}, which QEMU cannot back up", "Device")
    return found


def passed_warnings(guest: NamedGuest, passed: Passed, skip: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each device of which more cannot be told than that data may lie on it."""
    agreed = set(skip)
    return tuple(
        f"Guest {guest} has {_named(device)}: {'what' if device.kind == 'directory' else 'data that'} is on it is not in "
        "the capture."
        for device, holds in passed.items()
        if holds is None and not device.readonly and device.name not in agreed
    )


def attached_devices(before: Passed, now: Passed) -> list[str]:
    """Say of each device with data that the guest has now and had not when it was prepared, that it was attached."""
    had = {(device.name, device.what) for device in before}
    return [
        f"device {device.name} ({device.what}) was attached"
        for device, holds in now.items()
        if _has_own_data(device, holds) and (device.name, device.what) not in had
    ]


def _has_own_data(device: PassedDevice, holds: bool | None) -> bool:  # noqa: FBT001  as the kernel answers
    return bool(holds) and not device.readonly


def _named(device: PassedDevice) -> str:
    return device.what if device.kind in {"memory", "directory", "option"} else f"{device.what} passed through"
