"""The note that a host leaves others of a guest that left it while a capture held it: it is frozen or paused where it went.

A hash in Redis (`names.LEFT_HELD_KEY`) has one for each capture and guest. The host that the guest has left puts it there, the
host that has the guest lets it go and says so, and the first takes it away.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from pydantic import AwareDatetime

from freezeframe.contract.message import UNLESS_EMPTY, CaptureId, GuestUuid, HostId, Message
from freezeframe.contract.words import HoldKind

#: For how long a guest is looked for that has left, as one whose new host is down.
LOOKED_FOR: Final = timedelta(days=7)


class LeftHeld(Message):
    """A guest that was held when it left `host_id`, at `at` by that host's clock."""

    capture_id: CaptureId
    guest_uuid: GuestUuid
    host_id: HostId
    hold: HoldKind
    at: AwareDatetime
    let_go_by: Annotated[HostId | None, UNLESS_EMPTY] = None  # the host on which the guest was seen running, let go
