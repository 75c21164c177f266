"""Claims: which capture has a guest in hand, and the highest epoch that ever had.

    <state_dir>/claims/<guest uuid>   the capture's id; at most one capture has a guest
    <state_dir>/epochs/<guest uuid>   the highest epoch seen; an older order is one from the past and is refused

A claim is made before anything of the guest is changed and dropped after all is undone, so a crash in between leaves a
claim without changes, which recovery drops.
"""

from __future__ import annotations

from pathlib import Path

from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from workers import durable


class GuestClaimedError(FreezeframeError):
    """Another capture has the guest in hand."""

    code = "guest-claimed"
    exit_code = EXIT_REFUSED
    advice = "Wait for that capture to end (`freezeframe captures` shows it), or run `freezeframe recover` on the host."


class StaleOrderError(FreezeframeError):
    """An order from the past."""

    code = "stale-order"
    exit_code = EXIT_REFUSED
    advice = "A newer capture has had this guest since; nothing was done."


class Claims:
    """The claims of one host."""

    def __init__(self, state_dir: Path) -> None:
        self._claims = state_dir / "claims"
        self._epochs = state_dir / "epochs"
        durable.make_directory(self._claims)
        durable.make_directory(self._epochs)

    def take(self, guest_uuid: str, capture_id: str) -> None:
        """Claim a guest; claiming it again for the same capture changes nothing. Raises GuestClaimedError."""
        try:
            durable.create(self._claims / guest_uuid, capture_id)
        except FileExistsError as error:
            holder = self.holder(guest_uuid)
            if holder != capture_id:
                raise GuestClaimedError(f"The guest is being captured by {holder}.") from error

    def holder(self, guest_uuid: str) -> str | None:
        """The capture that has the guest in hand."""
        try:
            return (self._claims / guest_uuid).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def drop(self, guest_uuid: str, capture_id: str) -> None:
        """Drop this capture's claim; another's is left alone."""
        if self.holder(guest_uuid) == capture_id:
            durable.remove(self._claims / guest_uuid)

    def held_by(self, capture_id: str) -> list[str]:
        """The guests that a capture has in hand."""
        return sorted(path.name for path in self._claims.iterdir() if self.holder(path.name) == capture_id)

    def fence(self, guest_uuid: str, epoch: int) -> None:
        """Remember `epoch` for the guest. Raises StaleOrderError if a higher one was seen."""
        path = self._epochs / guest_uuid
        seen = int(path.read_text(encoding="utf-8")) if path.exists() else 0
        if epoch < seen:
            raise StaleOrderError(f"The order is of epoch {epoch}, and epoch {seen} has had the guest.")
        if epoch > seen:
            durable.replace(path, str(epoch))
