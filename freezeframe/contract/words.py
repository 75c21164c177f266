"""The closed sets of words of the contract."""

from __future__ import annotations

from enum import StrEnum


class HoldKind(StrEnum):
    """How a guest is kept still while its backup begins."""

    FREEZE = "freeze"  # its filesystems, through the guest agent
    PAUSE = "pause"  # its vCPUs
    FREEZE_PAUSE = "freeze-pause"  # both: raw devices and swap are still too
    NONE = "none"  # not at all: crash consistent

    @property
    def freezes(self) -> bool:
        return self in {HoldKind.FREEZE, HoldKind.FREEZE_PAUSE}

    @property
    def pauses(self) -> bool:
        return self in {HoldKind.PAUSE, HoldKind.FREEZE_PAUSE}


class Policy(StrEnum):
    """What becomes of a capture of which one part failed."""

    ALL = "all"  # nothing is kept
    DEGRADE = "degrade"  # the rest is kept, labelled with what is proven


class Consistency(StrEnum):
    """What is proven about a capture, best first."""

    GROUP = "group"  # every guest shows the same instant
    GUEST = "guest"  # each guest shows an instant of its own, held still while its disks' backups began
    CRASH = "crash"  # as after a power cut; the disks of one guest still share an instant


class CaptureKind(StrEnum):
    """How much of a disk was read. An index is complete in either case."""

    FULL = "full"
    INCREMENTAL = "incremental"


class WantedKind(StrEnum):
    """What a caller asks for. `auto` is incremental where the chain is proven, else full with the reason kept."""

    AUTO = "auto"
    FULL = "full"


class Method(StrEnum):
    """How the state of a guest is taken."""

    BACKUP_PULL = "backup-pull"


class Step(StrEnum):
    """The steps of the path that run on hosts, in order."""

    PREPARE = "prepare"
    HOLD = "hold"
    TRANSFER = "transfer"
    RELEASE = "release"


class RunState(StrEnum):
    """Where a run is on the path; every state but the last two names the step that it waits for."""

    ASKED = "asked"  # recorded, and not planned yet
    QUEUED = "queued"  # it waits for a place among the captures that are at work
    PREPARING = "preparing"
    HOLDING = "holding"
    TRANSFERRING = "transferring"
    SEALING = "sealing"
    RELEASING = "releasing"
    DONE = "done"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in {RunState.DONE, RunState.FAILED}
