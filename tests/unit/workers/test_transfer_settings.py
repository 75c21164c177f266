"""Settings of transfers are refused where they are read, not in the middle of a capture."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from freezeframe.repository import Effort
from freezeframe.settings import HostSettings


@pytest.mark.parametrize("compression", ["auto", "off", *map(str, range(1, 20))])
def test_every_compression_that_is_accepted_can_be_used(compression: str) -> None:
    Effort.parse(HostSettings(compression=compression).compression)


@pytest.mark.parametrize("compression", ["", "0", "20", "AUTO", "fast", "1 ", "-1"])
def test_any_other_is_refused(compression: str) -> None:
    with pytest.raises(ValidationError):
        HostSettings(compression=compression)


@pytest.mark.parametrize("name", ["transfer_limit_mib_s", "host_limit_mib_s"])
def test_a_limit_at_which_a_transfer_would_look_stalled_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        HostSettings.model_validate({name: 0.5})
