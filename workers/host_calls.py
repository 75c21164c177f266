"""Calls of a host's libvirt that concern no guest, each within a bound: libvirt has none of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from workers.bounded import GuestHangsError, NotStartedError
from workers.host import Host
from workers.hypervisor.errors import HypervisorUnreachableError

ResultT = TypeVar("ResultT")


class LibvirtHangsError(HypervisorUnreachableError):
    """libvirt has taken a call and does not answer it."""

    code = "libvirt-hangs"
    advice = (
        "libvirtd (or virtqemud) runs and does not answer: restart it on that host (`systemctl restart libvirtd`); the guests "
        "run on."
    )


def answered(host: Host, what: str, patience_s: float, call: Callable[[], ResultT]) -> ResultT:
    """Return or raise what `call` does. Raises LibvirtHangsError if that takes longer than `patience_s`, and
    HypervisorUnreachableError if there is no thread for it.

    `what` names the call in the error, as in `listing the guests`. A call that hangs costs one thread: while it does, the
    same call is refused at once, and others are made.
    """
    try:
        return host.calls.answered(f"libvirt, {what}", what, patience_s, call)
    except NotStartedError as error:
        raise HypervisorUnreachableError(
            f"libvirt of host {host.host_id} was not asked ({what}). {error}", advice=error.hint
        ) from error
    except GuestHangsError as error:
        raise LibvirtHangsError(
            f"libvirt of host {host.host_id} has not answered within {patience_s:g} s: {what}."
        ) from error
