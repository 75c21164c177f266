"""Claims: which capture has a guest in hand, and the highest epoch that ever had.

    <state_dir>/claims/<guest uuid>   {"v": 1, "capture_id": …}   at most one capture has a guest
    <state_dir>/epochs/<guest uuid>   {"v": 1, "epoch": …}        the highest epoch seen; an order of an older one is refused

A capture claims a guest before it changes anything of it, and drops the claim after all is undone. A crash, or a disk that is
full, in between leaves a claim without a line in the journal: recovery looks at both (`held`), and drops it.

Versions: later ones may add fields, and keep these two. A file that has neither is unreadable, and its guest is refused: to
take it for absent would let two captures have one guest, or an order from the past through.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

from freezeframe.contract.epoch import MOST_SEEN
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from workers import durable

#: Seconds that an epoch is ahead of this host's clock if it was not the clock that gave it: more than clocks may differ by.
AHEAD_S = 60.0

_CAPTURE = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class GuestClaimedError(FreezeframeError):
    """Another capture has the guest in hand."""

    code = "guest-claimed"
    exit_code = EXIT_REFUSED
    advice = "Wait for that capture to end; `freezeframe recover` on the host says what is left of one that has ended."

    def __init__(self, message: str, *, holder: str, advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.holder = holder


class StaleOrderError(FreezeframeError):
    """An order from the past."""

    code = "stale-order"
    exit_code = EXIT_REFUSED
    advice = (
        "A newer capture has had this guest since; nothing was done. If no other capture of it runs, capture again."
    )


class ClaimUnreadableError(FreezeframeError):
    """The file that says which capture has a guest, or had it last, cannot be read."""

    code = "claim-unreadable"
    exit_code = EXIT_REFUSED
    advice = (
        "If a newer version of freezeframe wrote the file, install that version again. If it is damaged, see that no capture "
        "of the guest runs (`freezeframe captures`, `virsh domjobinfo`), move the file away and run `freezeframe recover`."
    )


class Claims:
    """The claims of one host."""

    def __init__(self, state_dir: Path) -> None:
        self._claims = state_dir / "claims"
        self._epochs = state_dir / "epochs"
        durable.make_directory(self._claims)
        durable.make_directory(self._epochs)

    def take(self, guest_uuid: str, capture_id: str) -> None:
        """Claim a guest; claiming it again for the same capture changes nothing.

        Raises GuestClaimedError, ClaimUnreadableError, OSError.
        """
        try:
            durable.create(self._claims / guest_uuid, json.dumps({"v": 1, "capture_id": capture_id}))
        except FileExistsError as error:
            holder = self.holder(guest_uuid)
            if holder != capture_id:
                raise GuestClaimedError(f"Capture {holder} has the guest in hand.", holder=holder or "") from error

    def take_over(self, guest_uuid: str, holder: str, capture_id: str) -> None:
        """Claim a guest that `holder` has no more use for. Raises as `take` does: of two callers one wins."""
        self.drop(guest_uuid, holder)
        self.take(guest_uuid, capture_id)

    def holder(self, guest_uuid: str) -> str | None:
        """Return the capture that has the guest in hand. Raises ClaimUnreadableError."""
        path = self._claims / guest_uuid
        text = _read(path)
        return None if text is None else _capture_of(path, text)

    def may_be_held(self, guest_uuid: str, capture_id: str) -> bool:
        """Return True if the capture has the guest in hand, or there is no telling: unreadable is not absent."""
        try:
            return self.holder(guest_uuid) == capture_id
        except ClaimUnreadableError:
            return True

    def drop(self, guest_uuid: str, capture_id: str) -> None:
        """Drop this capture's claim; another's is left alone. Raises ClaimUnreadableError, OSError."""
        if self.holder(guest_uuid) == capture_id:
            durable.remove(self._claims / guest_uuid)

    def held_by(self, capture_id: str) -> list[str]:
        """Return the guests that a capture has in hand. Raises OSError."""
        return self.held()[0].get(capture_id, [])

    def held(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Return the guests that each capture has in hand; and for guests whose claim cannot be read, why. Raises OSError."""
        captures: dict[str, list[str]] = {}
        unreadable: dict[str, str] = {}
        for path in sorted(self._claims.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                holder = self.holder(path.name)
            except ClaimUnreadableError as error:
                unreadable[path.name] = error.message
            else:
                if holder is not None:
                    captures.setdefault(holder, []).append(path.name)
        return captures, unreadable

    def fence(self, guest_uuid: str, epoch: int) -> None:
        """Remember `epoch` for the guest. Raises StaleOrderError if a higher one was seen, ClaimUnreadableError, OSError."""
        path = self._epochs / guest_uuid
        text = _read(path)
        seen = 0 if text is None else _epoch_of(path, text)
        if epoch < seen:
            raise _stale(epoch, seen, path)
        if epoch > seen:
            durable.replace(path, json.dumps({"v": 1, "epoch": epoch}))

    def highest_epoch(self) -> int:
        """Return the highest epoch that any guest has seen; 0 if none has. Raises OSError.

        One that cannot be read, or that no capture can have, does not count: its own guest is refused.
        """
        highest = 0
        for path in self._epochs.iterdir():
            try:
                seen = 0 if path.name.startswith(".") else _epoch_of(path, _read(path) or "0")
            except ClaimUnreadableError:
                continue
            highest = max(highest, seen if seen <= MOST_SEEN else 0)
        return highest


def _stale(epoch: int, seen: int, path: Path) -> StaleOrderError:
    """Return the refusal of an order below the epoch that the guest has seen, with the way out."""
    message = f"The order is of epoch {epoch}, and epoch {seen} has had the guest."
    if seen > MOST_SEEN:
        return StaleOrderError(
            f"{message} No capture can have that one.",
            advice="See that no capture of the guest runs (`freezeframe captures`), then move the file away that has it: "
            f"{shlex.quote(str(path))}",
        )
    ahead_s = seen / 1e6 - time.time()
    if ahead_s > AHEAD_S:
        return StaleOrderError(
            f"{message} That is {ahead_s:.0f} s ahead of the clock: Redis's clock was ahead when it was given out.",
            advice="If no other capture of the guest runs, capture again once `freezeframe hosts` shows this host as up: hosts "
            "tell the orchestrator the highest epoch that they have seen, and it goes on above that.",
        )
    return StaleOrderError(message)


def _read(path: Path) -> str | None:
    try:
        return durable.read(path)
    except OSError as error:
        raise ClaimUnreadableError(f"{path} cannot be read: {error.strerror or error}.") from error


def _capture_of(path: Path, text: str) -> str:
    found = text if _CAPTURE.fullmatch(text) else _field(path, text, "capture_id")  # bare in version 0
    if not isinstance(found, str) or not _CAPTURE.fullmatch(found):
        raise ClaimUnreadableError(f"{path} names no capture.")
    return found


def _epoch_of(path: Path, text: str) -> int:
    found = int(text) if text.isdecimal() else _field(path, text, "epoch")  # bare in version 0
    if not isinstance(found, int) or isinstance(found, bool):
        raise ClaimUnreadableError(f"{path} names no epoch.")
    return found


def _field(path: Path, text: str, name: str) -> object:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClaimUnreadableError(f"{path} is damaged.") from error
    return fields.get(name) if isinstance(fields, dict) else None
