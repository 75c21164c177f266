"""libvirt 11.3 tells of an agent's answer under a code of its own, which 9.0 does not have."""

from __future__ import annotations

from typing import Final

import pytest

from ops.lab import Lab, blank
from tests.lab.agents_answers import check_understood

#: VIR_ERR_AGENT_COMMAND_FAILED
COMMAND_FAILED: Final = 113


@pytest.mark.case("P4", "G3")
def test_what_an_agent_answers_is_understood(lab: Lab) -> None:
    guest = lab.create_guest("host-b", "answering", blank(1, 64))
    guest.wait_ready()
    words = "guest agent command failed: unable to execute QEMU agent command '{command}'"
    check_understood(guest, words, COMMAND_FAILED)
    guest.remove()
