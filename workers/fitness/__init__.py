"""Fitness: can this guest and each of its disks be captured, how, and which label is possible. Pure decisions.

The premises of the proof are checked here and nowhere else (invariant 2). Prepare gathers the facts as values, and these
functions decide. A refusal names guest, disk and remedy, before any guest is held.

| question                                          | module         | answer                                             |
|---------------------------------------------------|----------------|----------------------------------------------------|
| Can this disk be captured?                        | disks          | taken, skipped with a reason, or refused           |
| Can a repository hold a disk of this size?        | size           | None, or the reason for a refusal                  |
| What of devices that no backup can read?          | passed_through | refused, left out by name, or a warning            |
| May this disk be captured decrypted?              | encryption     | None, or the refusal                               |
| Can this disk record its changes?                 | tracking       | None, or the reason for a full without checkpoint  |
| Has the disk a second writer?                     | sharing        | None, or the reason for a refusal                  |
| Does the hold keep this disk still?               | stillness      | the moving disks, and how many filesystems freeze  |
| Does a freeze reach all that is on this disk?     | coverage       | None, or what it may not reach                     |
| Does this device need a freeze?                   | exemption      | not swap, a boot area or read-only content         |
| Has the guest still the disks that were prepared? | drift          | the changes, and what the backup leaves out        |
| Can the guest be held so, in its state?           | guest          | None, or the refusal                               |
"""

from workers.fitness.coverage import kernel_name
from workers.fitness.disks import choose_disks
from workers.fitness.drift import DiskSet, compare_disks
from workers.fitness.encryption import plain_text_warnings
from workers.fitness.guest import blocked_command, state_refusal
from workers.fitness.leaving_out import not_capturable
from workers.fitness.passed_through import Passed, attached_devices, passed_warnings
from workers.fitness.sharing import DiskUse, later_uses, shared_reason, unseen_reason, uses_everywhere
from workers.fitness.size import size_hindrance
from workers.fitness.stillness import MovingDisk, Stillness, all_moving, stillness
from workers.fitness.tracking import untracked_reason

__all__ = [
    "DiskSet",
    "DiskUse",
    "MovingDisk",
    "Passed",
    "Stillness",
    "all_moving",
    "attached_devices",
    "blocked_command",
    "choose_disks",
    "compare_disks",
    "kernel_name",
    "later_uses",
    "not_capturable",
    "passed_warnings",
    "plain_text_warnings",
    "shared_reason",
    "size_hindrance",
    "state_refusal",
    "stillness",
    "unseen_reason",
    "untracked_reason",
    "uses_everywhere",
]
