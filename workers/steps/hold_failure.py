"""Why a guest was not held, where no call has said so: its calls succeeded too late, or ended in a way nobody has foreseen."""

from __future__ import annotations

from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers.hypervisor.freeze_failure import SLOW_SHARE, LateFreezeError, SlowFreezeError, is_late


class LateHoldError(FreezeframeError):
    """The guest was held, or its backup began, when the others no longer waited for it; it was let go at once."""

    code = "late-hold"
    advice = "Look at the load of that host and at libvirtd's log, or give the guests longer with --hold-timeout."


def too_late(
    guest: NamedGuest, held_s: float | None, freeze_s: tuple[float, float] | None, *, begins: bool = False
) -> FreezeframeError:
    """Return why a guest took no part that was not held in time, although no call failed. Pure.

    `held_s`: after how long it was held, if it was; `freeze_s`: how long its freeze took, and how long there was for it;
    `begins`: it was held in time, and waited for its backup to begin.
    """
    if freeze_s is not None:
        took_s, left_s = freeze_s[0], max(1.0, freeze_s[1])
        if is_late(took_s, left_s):
            return LateFreezeError(guest, took_s, left_s)
        if took_s >= SLOW_SHARE * left_s:
            return SlowFreezeError(guest, took_s)
    if held_s is None:
        return LateHoldError(f"Guest {guest} was not held in time: its turn had not come.")
    if begins:
        return LateHoldError(
            f"Guest {guest} was held after {held_s:.1f} s, and its backup had not begun when the others no longer waited for "
            "it. It was let go at once."
        )
    return LateHoldError(
        f"Guest {guest} was held only after {held_s:.1f} s, when the others no longer waited for it. It was let go at once."
    )
