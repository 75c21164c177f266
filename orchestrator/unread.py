"""Hosts whose inventory entries this version cannot read: their guests are neither absent nor known (invariant 10). Pure.

request             policy      then
every guest         all         refused: guests of that host would be missing without a word
every guest         degrade     goes on, with a fault that names the host
guests by name      any         goes on; a guest that is not found may be on that host, and the refusal says so
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from freezeframe import naming
from freezeframe.contract.fault import Fault
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import Policy
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from freezeframe.presence import UNREAD_ADVICE, UnreadHost
from orchestrator.errors import NoGuestsError, UnknownGuestError

#: Hosts that the refusal of one word names; of the others it tells the number.
MOST_NAMED: Final = 8


class UnreadHostError(FreezeframeError):
    """A host is there, and its guests are not known."""

    code = "unread-host"
    exit_code = EXIT_REFUSED

    def __init__(self, host: UnreadHost) -> None:
        word = naming.argument(host.host_id)
        without = "To capture the rest without it, add --policy degrade"
        gone = "" if host.alive else f"; if it is gone for good: `freezeframe hosts forget {word}`"
        super().__init__(f"{host} Its guests would be left out.", advice=f"{UNREAD_ADVICE} {without}{gone}.")


def faults(request: CaptureRequest, unread: Sequence[UnreadHost]) -> tuple[Fault, ...]:
    """Return a fault for each host that policy `degrade` goes on without. Raises UnreadHostError under policy `all`."""
    if not request.every_guest:
        return ()
    if unread and request.policy is Policy.ALL:
        raise UnreadHostError(unread[0])
    return tuple(Fault.of(UnreadHostError(host), host=host.host_id) for host in unread)


def explained(error: UnknownGuestError | NoGuestsError, unread: Sequence[UnreadHost]) -> FreezeframeError:
    """Return the refusal with the hosts that may have the guest, if there are any."""
    if not unread:
        return error
    named = [str(host) for host in unread[:MOST_NAMED]]
    if len(unread) > MOST_NAMED:
        named.append(f"Nor are those of {len(unread) - MOST_NAMED} more hosts.")
    message = " ".join([error.message, "The guests of some hosts are not known here.", *named])
    return type(error)(message, advice=f"{UNREAD_ADVICE} {error.hint}")
