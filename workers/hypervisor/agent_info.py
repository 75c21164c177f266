"""Commands that a guest's agent knows, and whether its configuration allows each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import refused


def commands(domain: Domain, timeout_s: int) -> Mapping[str, bool] | None:
    """Return each command with whether it is enabled; None if the agent answers, but not this. Raises AgentError."""
    try:
        answer = domain.agent_command('{"execute": "guest-info"}', timeout_s)
    except AgentError as error:
        if refused(error):
            return None
        raise
    return parse(answer)


def parse(answer: str) -> Mapping[str, bool] | None:
    """Return the commands in an answer to guest-info; None if it is no such answer. The guest is not trusted. Pure."""
    try:
        listed: Any = json.loads(answer)["return"]["supported_commands"]
        found = {one["name"]: one["enabled"] for one in listed}
    except (ValueError, KeyError, TypeError):
        return None
    well_formed = all(isinstance(name, str) and isinstance(enabled, bool) for name, enabled in found.items())
    return found if found and well_formed else None
