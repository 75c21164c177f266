"""Fitness: can this guest and each of its disks be captured, how, and which label is possible. Pure decisions.

The premises of the proof are checked here and nowhere else (invariant 2). Prepare gathers the facts as values, and these
functions decide. A refusal names guest, disk and remedy, before any guest is held.

| question                                        | module       | answer                                             |
|-------------------------------------------------|--------------|----------------------------------------------------|
| Can this disk be captured?                      | disks        | taken, skipped with a reason, or refused           |
| Can this disk record its changes?               | tracking     | None, or the reason for a full without checkpoint  |
"""

from workers.fitness.disks import choose_disks
from workers.fitness.tracking import untracked_reason

__all__ = ["choose_disks", "untracked_reason"]
