"""Why an order was not done, whatever its step."""

from __future__ import annotations

from freezeframe.errors import EXIT_REFUSED, EXIT_UNREACHABLE, FreezeframeError


class LateOrderError(FreezeframeError):
    """The order came after its time."""

    code = "late-order"
    exit_code = EXIT_REFUSED
    advice = "Its capture has gone on without it; look whether the host's control worker keeps up with its queue."


class ForeignOrderError(FreezeframeError):
    """The order is for another host."""

    code = "foreign-order"
    exit_code = EXIT_REFUSED
    advice = "Two hosts may share a host id; give each its own FREEZEFRAME_HOST_ID."


class OrderBoundsError(FreezeframeError):
    """The order asks for more than this host does for anybody."""

    code = "order-bounds"
    exit_code = EXIT_REFUSED
    advice = "No orchestrator of this version sends such an order: look at who may write to Redis."


class UnexpectedError(FreezeframeError):
    """A defect in Freezeframe."""

    code = "unexpected"
    advice = "This is a defect; the host's log has the traceback."


class UnreadableOrderError(FreezeframeError):
    """The order, or the stored result of it, is not understood."""

    code = "unreadable-order"
    advice = "Another version of freezeframe wrote it: install the same version on this host and on the orchestrator's."


class InterruptedStepError(FreezeframeError):
    """The process that was at work on the step has died."""

    code = "interrupted"
    exit_code = EXIT_UNREACHABLE
    advice = "Look into the host's log for why its worker ended; then capture again."
