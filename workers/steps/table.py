"""The steps of the path by name: which order each takes, what does it, and what a failure of it looks like."""

from __future__ import annotations

from typing import Any

from freezeframe.contract.order import HoldOrder, PrepareOrder, ReleaseOrder, TransferOrder
from freezeframe.contract.words import Step
from workers.steps import hold, prepare, release, sole_writer, transfer, without_guests
from workers.steps.frame import StepCode

PREPARE = StepCode(Step.PREPARE, PrepareOrder, prepare.prepare, prepare.failed)
HOLD = StepCode(
    Step.HOLD,
    HoldOrder,
    hold.hold,
    hold.failed,
    hold.give_up,
    without_guests.meet,
    without_guests.arrive,
)
TRANSFER = StepCode(Step.TRANSFER, TransferOrder, sole_writer.transfer, transfer.failed)
RELEASE = StepCode(Step.RELEASE, ReleaseOrder, release.release, release.failed)

#: By the worker that does them.
CONTROL_STEPS: tuple[StepCode[Any, Any], ...] = (PREPARE, HOLD, RELEASE)
DATA_STEPS: tuple[StepCode[Any, Any], ...] = (TRANSFER,)
