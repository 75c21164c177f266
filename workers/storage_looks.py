"""The storage of several running guests as libvirt tells it now, asked side by side within one bound for all.

Guests whose storage hangs are ordinary where their server is away; asked one after another, each would keep all others waiting.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple

from freezeframe.errors import FreezeframeError
from workers.fitness import DiskUse
from workers.host import Host
from workers.hypervisor.errors import GuestGoneError
from workers.identity.asking import Question, ask_all
from workers.identity.uses import uses_of_guest

#: Guests that are asked for at once: the threads are the host's, and a hold needs some too.
AT_ONCE: Final = 32


class Look(NamedTuple):
    """The storage of one guest, and why not all of it is known."""

    uses: tuple[DiskUse, ...] = ()
    unseen: str = ""
    gone: bool = False  # the guest does not run any more


def looks(host: Host, guest_uuids: Iterable[str], patience_s: float) -> dict[str, Look]:
    """Return what each guest uses, after `patience_s` at most; what has not been told by then is unseen."""
    uuids, deadline = sorted(set(guest_uuids)), time.monotonic() + patience_s
    found: dict[str, Look] = {}
    for first in range(0, len(uuids), AT_ONCE):
        questions = {uuid: _question(host, uuid, patience_s) for uuid in uuids[first : first + AT_ONCE]}
        found |= _some(host, questions, deadline)
    return found


def _some(host: Host, questions: dict[str, Question[Look]], deadline: float) -> dict[str, Look]:
    """Ask for some guests; for those without a thread again as long as others return theirs."""
    found = {uuid: question.otherwise for uuid, question in questions.items()}
    rest = list(questions)
    while rest and (patience_s := deadline - time.monotonic()) > 0:
        found |= zip(rest, ask_all([questions[uuid] for uuid in rest], patience_s, host.calls), strict=True)
        before, rest = len(rest), [uuid for uuid in rest if found[uuid] is questions[uuid].otherwise]
        if len(rest) == before:
            break
    return found


def _question(host: Host, guest_uuid: str, patience_s: float) -> Question[Look]:
    what = f"the storage of guest {guest_uuid}"
    late = f"libvirt of host {host.host_id} has not answered within {patience_s:g} s: {what}"
    return Question(f"libvirt, {what}", partial(_look, host, guest_uuid), Look(unseen=late))


def _look(host: Host, guest_uuid: str) -> Look:
    try:
        uses = uses_of_guest(host.hypervisor, guest_uuid)
    except GuestGoneError:
        return Look(gone=True)
    except (FreezeframeError, OSError, ValueError) as error:
        return Look(unseen=str(error).rstrip(".") or type(error).__name__)
    return Look(tuple(uses), unseen_writes(uses))


def unseen_writes(uses: Iterable[DiskUse]) -> str:
    """Return why it is not known what a guest writes to; nothing if it is."""
    return next((use.writes_unseen for use in uses if use.writes_unseen), "")
