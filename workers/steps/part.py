"""The part that a host takes in a hold: the guests that it may hold, and those that it does without.

    trouble of the host ─▶ `hold_none` ─▶ the host meets the others without a guest ─▶ `tell`: journal, log, a fault a guest

What is told of guests that are not held is told after the window. Other hosts may hold theirs meanwhile and wait for this
one's report, and a journal that syncs a line for each of 200 guests takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from freezeframe.contract.order import HoldOrder
from freezeframe.contract.result import HeldGuestFault
from freezeframe.errors import FreezeframeError
from workers.host import Host
from workers.journal import CaptureJournal
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.held_guest import fault_without, try_to_record_let_go
from workers.steps.prepared import Prepared, read_prepared

log = structlog.get_logger("hold")


@dataclass
class Part:
    """Guests that may be held; the reasons of others; and what is still to be told of guests that were ready."""

    guests: list[HeldGuest] = field(default_factory=list)
    unfit: list[HeldGuestFault] = field(default_factory=list)
    _dropped: list[HeldGuest] = field(default_factory=list)  # ready, and not held after all
    _trouble: Exception | None = None  # of the host, which keeps all its guests out

    def keep(self, guests: Sequence[HeldGuest]) -> None:
        """Hold only these of the guests; the others have their reason in `unfit`."""
        self._dropped += [guest for guest in self.guests if guest not in guests]
        self.guests[:] = guests

    def hold_none(self, order: HoldOrder, trouble: Exception) -> None:
        """Hold no guest of the order, for trouble of the host. Raise `trouble` under policy `all`."""
        if order.all_or_nothing:
            raise trouble
        self.keep(())
        self._trouble = trouble

    def give_up(self) -> None:
        """Hold no guest: the hold ends before it has begun."""
        self.keep(())

    def tell(self, host: Host, order: HoldOrder, journal: CaptureJournal) -> None:
        """Write down that guests are not held, and have a fault for each that has none yet: that of the host. Call it once."""
        try_to_record_let_go(journal, self._dropped)
        if self._trouble is None:
            return
        unforeseen = None if isinstance(self._trouble, FreezeframeError) else self._trouble
        log.error("none of this host's guests is held", why=str(self._trouble), exc_info=unforeseen)
        prepared, told = _prepared(journal), {one.guest_uuid for one in self.unfit}
        self.unfit += [
            fault_without(host, guest.guest_uuid, prepared.name_of(guest.guest_uuid), self._trouble)
            for guest in order.guests
            if guest.guest_uuid not in told
        ]


def _prepared(journal: CaptureJournal) -> Prepared:
    try:
        return read_prepared(journal)
    except OSError:  # then guests are told by their UUIDs
        return Prepared({})
