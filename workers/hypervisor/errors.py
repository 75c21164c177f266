"""libvirt's failures, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from freezeframe.errors import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_UNREACHABLE, FreezeframeError


class HypervisorError(FreezeframeError):
    """libvirt refused or failed."""

    code = "hypervisor"
    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, advice: str | None = None, libvirt_code: int | None = None) -> None:
        super().__init__(message, advice=advice)
        self.libvirt_code = libvirt_code


class HypervisorUnreachableError(HypervisorError):
    """The libvirt daemon does not answer."""

    code = "hypervisor-unreachable"
    exit_code = EXIT_UNREACHABLE
    advice = "Check that libvirtd (or virtqemud) runs on this host and that FREEZEFRAME_LIBVIRT_URI names it."


class GuestGoneError(HypervisorError):
    """The guest is not on this host."""

    code = "guest-gone"
    exit_code = EXIT_NOT_FOUND
    advice = "It may have migrated or been undefined; ask again when `freezeframe guests` shows it."


class AgentError(HypervisorError):
    """The guest agent does not answer."""

    code = "agent"
    advice = "Install and start qemu-guest-agent in the guest, or capture it with --hold pause."
    #: libvirt's message, which has the agent's own words, where the agent answered with an error; else None.
    refusal: str | None = None


_CONNECTION_DOMAINS = {libvirt.VIR_FROM_RPC}


@contextmanager
def telling(what: str, failure: type[HypervisorError] = HypervisorError) -> Iterator[None]:
    """Turn a libvirt error into one of ours; `what` says what was tried, as in `freezing guest alpha`.

    A guest that is gone and a daemon that does not answer have classes of their own; all else becomes `failure`.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        message = f"{what[:1].upper()}{what[1:]} failed: {error.get_error_message()}."
        if code == libvirt.VIR_ERR_NO_DOMAIN:
            raise GuestGoneError(message, libvirt_code=code) from error
        if code == libvirt.VIR_ERR_NO_CONNECT or error.get_error_domain() in _CONNECTION_DOMAINS:
            raise HypervisorUnreachableError(message, libvirt_code=code) from error
        raise failure(message, libvirt_code=code) from error
