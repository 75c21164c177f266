"""A freeze that the agent answered with an error, told apart from an agent that does not answer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError

#: What libvirt says if the agent answered, with an error. [libvirt src/qemu/qemu_agent.c, qemuAgentCheckError]
_AGENT_REFUSED = "unable to execute QEMU agent command"
#: What the agent says if its hook ended with another status than 0. [qga/commands-posix.c, execute_fsfreeze_hook]
_HOOK_FAILED = "fsfreeze hook"


class FreezeFailedError(AgentError):
    """The agent tried to freeze the guest and could not."""

    code = "freeze-failed"


class FreezeHookError(FreezeFailedError):
    """The freeze hook in the guest ended with an error, so the agent froze nothing."""

    code = "freeze-hook"


class SlowFreezeError(AgentError):
    """The agent began to freeze the guest and had not ended in the time that it was given."""

    code = "slow-freeze"

    def __init__(self, guest: str, seconds: float) -> None:
        pause = shlex.quote(f"{guest}:pause")
        super().__init__(
            f"Guest {guest} had not frozen its filesystems after {seconds:.1f} s.",
            advice=f"Give it longer with --hold-timeout, or capture it with --guest-hold {pause}, which needs no freeze. "
            "What takes that long is in the guest: its freeze hook, or much data to write.",
        )
        self.seconds = seconds


def refused(error: AgentError) -> bool:
    """Return True if the agent itself answered with an error, False if it did not answer."""
    return _AGENT_REFUSED in error.message


@contextmanager
def answering(domain: Domain) -> Iterator[None]:
    """Turn the AgentError of a freeze into the failure that the agent's own answer tells of."""
    try:
        yield
    except AgentError as error:
        if not refused(error):
            raise
        raise _failure(domain.name, error) from error


def _failure(guest: str, error: AgentError) -> FreezeFailedError:
    pause = f"capture the guest with --guest-hold {shlex.quote(f'{guest}:pause')}, which needs no freeze."
    if _HOOK_FAILED in error.message:
        return FreezeHookError(
            f"The freeze hook in guest {guest} failed: {error.message}",
            advice=f"Run the hook in the guest by hand with the word freeze and mend what it reports, or {pause}",
            libvirt_code=error.libvirt_code,
        )
    return FreezeFailedError(
        f"The agent of guest {guest} could not freeze its filesystems: {error.message}",
        advice=f"Look at the agent's log in the guest, or {pause}",
        libvirt_code=error.libvirt_code,
    )
