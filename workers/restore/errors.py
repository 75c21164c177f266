"""What can go wrong with a restore. Refused: nothing was written. Else: the file named was not, what is whole stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from freezeframe import naming
from freezeframe.errors import EXIT_DAMAGED, EXIT_FAILED, EXIT_NOT_FOUND, EXIT_REFUSED, FreezeframeError


class RestoreError(FreezeframeError):
    """The restore failed."""

    code = "restore"


class RestoreRefusedError(RestoreError):
    """The restore was not begun."""

    code = "restore-refused"
    exit_code = EXIT_REFUSED


class NotInCaptureError(RestoreError):
    """The capture has no such guest or disk."""

    code = "not-in-capture"
    exit_code = EXIT_NOT_FOUND
    advice = "`freezeframe captures` lists the captures and the guests in them."


class AmbiguousGuestError(RestoreRefusedError):
    """More than one guest of the capture has the name by which one is meant."""

    code = "ambiguous-guest"

    @classmethod
    def of(cls, where: str, word: str, guests: Sequence[tuple[str, str]]) -> AmbiguousGuestError:
        """`guests`: the UUID and the host of each that `word` may mean."""
        ways = naming.guest_options(guest_uuid for guest_uuid, _ in guests)
        return cls(
            f"{where} has more than one guest named {word}: {naming.told_apart(guests)}.",
            advice=f"Name one by its UUID, {ways}, or each of them.",
        )


class UnsafeNameError(RestoreRefusedError):
    """A name from the manifest cannot be a file's name, or two files would have the same one."""

    code = "unsafe-name"
    advice = "Name the guests one by one, by their UUIDs with --guest, each into a directory of its own."


class TargetExistsError(RestoreRefusedError):
    """There is a file already where one would be restored to."""

    code = "target-exists"
    advice = "Restore to another directory, or give --overwrite to replace it."


class TargetInUseError(RestoreRefusedError):
    """The file is a running guest's disk, or another restore writes it."""

    code = "target-in-use"
    advice = "Stop the guest or wait for the other restore, or restore to another directory."


_WITHOUT_CHECK: Final = (
    "If you know that no running guest has it, add --no-guest-check: then open descriptors alone decide."
)


class GuestsUnknownError(RestoreRefusedError):
    """libvirt is there, and it cannot be told which storage its running guests have."""

    code = "guests-unknown"
    advice = (
        "Run this as root. If libvirt does not answer, `systemctl restart libvirtd` (or virtqemud) lets the guests run on. "
        + _WITHOUT_CHECK
    )

    @classmethod
    def of(cls, written: str, why: str, advice: str | None = None) -> GuestsUnknownError:
        """Return the error for a libvirt that does not answer. `written`: the places that would be written over."""
        message = f"Whether a running guest has {written} as its disk cannot be told: {why.rstrip('.')}."
        return cls(message, advice=advice)

    @classmethod
    def of_disk(cls, written: str, why: str) -> GuestsUnknownError:
        """Return the error for a libvirt that answers, and one guest's disk whose storage is not found; `why` names both."""
        seen = (
            "Run this as root in the host's PID namespace, where the open files of that guest's QEMU are seen, or shut "
        )
        return cls.of(written, why, f"{seen}that guest down. {_WITHOUT_CHECK}")


class TargetUnfitError(RestoreRefusedError):
    """The directory cannot be restored to."""

    code = "target-unfit"
    advice = "Give a directory that this user may write to, or one that can be created."


class DeviceUnfitError(RestoreRefusedError):
    """A block device or an NBD export cannot be restored to."""

    code = "device-unfit"
    advice = "Name a block device as /dev/…, or an export that may be written to as nbd://host/name or nbd+unix:///name?socket=…"


class DeviceTooSmallError(RestoreRefusedError):
    """A block device or an NBD export is smaller than the disk."""

    code = "device-too-small"
    advice = "Nothing was written. Name one that is at least as large as the disk."


class DeviceNotConfirmedError(RestoreRefusedError):
    """What is on a device would be lost, and nobody has said that it may be."""

    code = "device-not-confirmed"
    advice = "Look again at what you named; if all that is on it may be lost, give --overwrite-devices."


class NoRoomError(RestoreRefusedError):
    """There is less room than the data needs."""

    code = "no-room"
    advice = "Free space there, restore to another file system, or restore fewer disks with --disk."


class TargetFullError(RestoreError):
    """The file system ran full meanwhile."""

    code = "target-full"
    exit_code = EXIT_FAILED
    advice = "No partial file is left. Free space there, or restore to another file system."


class TargetNotWritableError(RestoreError):
    """Writing the image failed."""

    code = "target-not-writable"
    exit_code = EXIT_FAILED
    advice = "No partial file is left. Check the mount, its permissions and the kernel log."


class DiskDamagedError(RestoreError):
    """A disk's index or one of its chunks is not what was written."""

    code = "disk-damaged"
    exit_code = EXIT_DAMAGED


class DefinitionUnfitError(RestoreRefusedError):
    """The captured domain XML cannot be made into a definition."""

    code = "definition-unfit"
    advice = "Restore the disks without --define and write a definition by hand."


class DefinitionNotTrustedError(RestoreRefusedError):
    """The captured definition gives its guest more of the host than what was restored."""

    code = "definition-not-trusted"
    advice = (
        "Nothing was written. If you know that these are the guest's own, add --trust-definition. Or restore the disks without "
        "--define, and write a definition by hand from the .xml beside them."
    )


class GuestDefinedError(RestoreRefusedError):
    """libvirt knows a guest of that name or UUID."""

    code = "guest-defined"
    advice = "Give another name with --define, or undefine the guest that is there."


class DefineNameError(RestoreRefusedError):
    """The name to define a guest by cannot be used."""

    code = "define-name"
    advice = "Give one guest with --guest, or a name with {guest} in it, as in --define '{guest}-restored'."
