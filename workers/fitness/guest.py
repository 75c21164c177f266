"""Decide whether a guest can be held as asked, by its state and by the commands that its agent allows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.words import HoldKind
from freezeframe.naming import NamedGuest
from workers.refusal import (
    AgentCommandBlockedError,
    GuestCrashedError,
    GuestEndingError,
    GuestPausedError,
    GuestSuspendedError,
    RefusedError,
)


def state_refusal(guest: NamedGuest, state: str, hold: HoldKind) -> RefusedError | None:
    """Return the refusal of an active guest in this state, in virsh's words; None if it can be held so.

    A guest that does not run can be captured as it is, without a hold; the label says no more than `crash` then.
    """
    as_it_is = f"or capture it as it is with --guest-hold {guest.option('none')}."
    if state == "in shutdown":
        return GuestEndingError(f"Guest {guest} is shutting down.")
    if hold is HoldKind.NONE:
        return None
    if state == "paused":
        return GuestPausedError(
            f"Guest {guest} is paused already, and not by this capture.",
            advice=f"Resume it (`virsh resume {guest.virsh}`), {as_it_is}",
        )
    if state == "pmsuspended":
        return GuestSuspendedError(
            f"Guest {guest} is suspended to memory (S3).",
            advice=f"Wake it (`virsh dompmwakeup {guest.virsh}`), {as_it_is}",
        )
    if state == "crashed":
        return GuestCrashedError(
            f"Guest {guest} has crashed and is kept as it was.",
            advice=f"Restart it (`virsh reset {guest.virsh}`), {as_it_is}",
        )
    return None


def blocked_command(guest: NamedGuest, hold: GuestHold, commands: Mapping[str, bool] | None) -> RefusedError | None:
    """Return the refusal of a freeze that the agent's configuration blocks; None if every command it needs is enabled.

    `commands` is what guest-info lists; None if the agent does not answer it, which blocks nothing by itself.
    """
    if commands is None or not hold.kind.freezes:
        return None
    freeze = "guest-fsfreeze-freeze-list" if hold.mountpoints else "guest-fsfreeze-freeze"
    blocked = [name for name in ("guest-fsfreeze-status", freeze, "guest-fsfreeze-thaw") if not commands.get(name)]
    if not blocked:
        return None
    said = "blocks" if blocked[0] in commands else "does not know"
    return AgentCommandBlockedError(
        f"The agent of guest {guest} {said} {', '.join(blocked)}.",
        advice="Allow it in the configuration of the guest's agent (allow-rpcs or block-rpcs in qemu-ga.conf, or the options "
        f"of its service) and restart the agent, or capture the guest with --guest-hold {guest.option('pause')}.",
    )
