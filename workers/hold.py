"""Holding a guest still, letting it go, and asking the guest itself whether it was let go.

    kind           held by                  let go by                asked
    freeze         the agent freezes        thaw                     the agent's freeze status
    pause          libvirt pauses vCPUs     resume                   libvirt's state
    freeze-pause   freeze, then pause       resume, then thaw        both
    none           –                        –                        –

Letting go is always complete: it is tried after a hold that failed too, because a freeze that timed out may still succeed
in the guest, and it is safe to repeat. The worker and the thaw guard let go by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass

from freezeframe.contract.words import HoldKind
from freezeframe.errors import FreezeframeError
from workers.hypervisor import agent
from workers.hypervisor.domain import Domain
from workers.hypervisor.freeze_failure import FreezeExpiredError


class StillHeldError(FreezeframeError):
    """The guest was told to run on and says it does not."""

    code = "still-held"
    advice = "The thaw guard goes on trying. Run `freezeframe thaw` on the host, or reset the guest."


@dataclass(frozen=True)
class LetGo:
    """What letting go found: if it was not what the hold had left, somebody else let the guest go before."""

    thawed: int | None  # filesystems; None if the hold freezes none
    was_paused: bool | None  # None if the hold does not pause


def let_go(domain: Domain, kind: HoldKind, timeout_s: int) -> LetGo:
    """Let the guest go. Raises HypervisorError. May be repeated."""
    was_paused = domain.state() == "paused" if kind.pauses else None
    if was_paused:
        domain.resume()
    return LetGo(_thaw(domain, kind, timeout_s) if kind.freezes else None, was_paused)


def _thaw(domain: Domain, kind: HoldKind, timeout_s: int) -> int:
    """Thaw the guest. That Windows had let it go by itself is no failure for one that was paused as well."""
    try:
        return agent.thaw(domain, timeout_s)
    except FreezeExpiredError:
        if not kind.pauses:
            raise
        return 0


def verify_let_go(domain: Domain, kind: HoldKind, timeout_s: int) -> None:
    """Ask whether the guest runs and is not frozen. Raises StillHeldError, HypervisorError."""
    if kind.pauses and domain.state() == "paused":
        raise StillHeldError(f"Guest {domain.name} is still paused.")
    if kind.freezes and agent.freeze_status(domain, timeout_s) == "frozen":
        raise StillHeldError(f"Guest {domain.name} says that it is still frozen.")
