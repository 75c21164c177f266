"""Read a small file in a guest through its agent. The guest is not trusted: it may answer anything."""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import suppress
from typing import Any, Final

from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError

#: The commands that reading takes, which many distributions' agents block.
FILE_COMMANDS: Final = ("guest-file-open", "guest-file-read", "guest-file-close")
#: Enough for what is read: /proc/swaps, and a device's entry in udev's database.
MOST_BYTES: Final = 64 << 10


def read_guest_file(domain: Domain, path: str, timeout_s: int) -> str:
    """Return the beginning of a file in the guest as text. Raises AgentError, also for a file that is not there."""
    handle = _ask(domain, timeout_s, "guest-file-open", path=path, mode="r")
    try:
        answer = _ask(domain, timeout_s, "guest-file-read", handle=handle, count=MOST_BYTES)
        return base64.b64decode(answer["buf-b64"]).decode(errors="replace")
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise AgentError(f"The agent of {domain} answered guest-file-read with something that is no answer.") from error
    finally:
        with suppress(AgentError):
            _ask(domain, timeout_s, "guest-file-close", handle=handle)


def _ask(domain: Domain, timeout_s: int, command: str, **arguments: Any) -> Any:
    answer = domain.agent_command(json.dumps({"execute": command, "arguments": arguments}), timeout_s)
    try:
        return json.loads(answer)["return"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AgentError(f"The agent of {domain} answered {command} with something that is no answer.") from error
