"""Whether a guest's agent answered with an error, by what libvirt tells of it, in whatever language libvirtd speaks.

libvirt translates its messages by libvirtd's locale (Debian: LANG of /etc/default/locale, and libvirt-l10n). The same in every
language are the error's code and domain, the command's name, and what the agent said, which libvirt puts in as it is:

    code, domain                       libvirt's words                                      the agent
    1 or 113, QEMU                     … '<command>' …: <what the agent said>               answered with an error
    1, QEMU                            "Missing agent reply object", "End of file …": …     did not answer
    86, 97, 112                        "Guest agent is not responding: …"                   did not answer

[libvirt src/qemu/qemu_agent.c: qemuAgentCheckError. 1 is VIR_ERR_INTERNAL_ERROR; 11.2 added VIR_ERR_AGENT_COMMAND_TIMEOUT (112)
and VIR_ERR_AGENT_COMMAND_FAILED (113). The agent's words need not come last: in Marathi libvirt's follow them.]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import libvirt

from workers.hypervisor.errors import AgentError, telling

#: VIR_ERR_AGENT_COMMAND_FAILED, which libvirt's client of Debian 12 does not know by name.
_COMMAND_FAILED: Final = 113
#: The codes under which libvirt tells of an agent that answered with an error.
_ANSWERED: Final = frozenset({libvirt.VIR_ERR_INTERNAL_ERROR, _COMMAND_FAILED})


@contextmanager
def asking(what: str, command: str) -> Iterator[None]:
    """Turn a libvirt error of an agent's command into an AgentError, with its `refusal`; `what` is as for `telling`."""
    try:
        with telling(what, AgentError):
            yield
    except AgentError as error:
        if isinstance(error.__cause__, libvirt.libvirtError):
            error.refusal = refusal_in(error.__cause__, command)
        raise


def refusal_in(error: libvirt.libvirtError, command: str) -> str | None:
    """Return the message that has what the agent said to `command`; None if the agent did not answer. Pure."""
    message = error.get_error_message() or ""
    if error.get_error_domain() != libvirt.VIR_FROM_QEMU or error.get_error_code() not in _ANSWERED:
        return None
    is_named = re.search(rf"(?<![\w-]){re.escape(command)}(?![\w-])", message, re.ASCII)
    return message if is_named else None
