"""An error in the form in which it crosses the wire, whatever it tells of."""

from __future__ import annotations

import json
import os

import pytest

from freezeframe.contract.fault import Fault
from freezeframe.errors import FreezeframeError
from freezeframe.repository.config import Config, read_config
from freezeframe.repository.errors import RepositoryUnsupported

ODD = os.fsdecode(b"/images/\xff\xfe.raw")
SHOWN = "/images/\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.raw"


def test_a_name_that_is_not_utf_8_is_told_with_replacements() -> None:
    """JSON has no such character, so the answer of a whole step could not be told."""
    error = FreezeframeError(f"{ODD} is missing.", advice=f"Look for {ODD}.")
    fault = Fault.of(error, guest=ODD, disk=ODD, host=ODD)
    assert (error.message, error.hint, str(error)) == (f"{SHOWN} is missing.", f"Look for {SHOWN}.", error.message)
    assert Fault.model_validate_json(fault.model_dump_json()) == fault
    assert (fault.message, fault.guest, fault.disk, fault.host) == (f"{SHOWN} is missing.", SHOWN, SHOWN, SHOWN)


def test_so_is_a_fault_that_no_error_made() -> None:
    assert Fault(code="x", message=ODD, advice=ODD).model_dump_json().encode()


def test_text_in_any_language_stays_as_it_is() -> None:
    text = "Gäste, 客, \U0001f9ca\n\tund 'so' weiter"
    assert Fault.of(FreezeframeError(text)).message == text


@pytest.mark.parametrize("feature", ["\ud800", "a\udfffb"])
def test_a_feature_whose_name_is_half_a_character_is_told(feature: str) -> None:
    """The fuzzer found it: JSON may have such a text, and the error could not be told."""
    raw = {**json.loads(Config.model_validate({"id": "0" * 32, "chunk_bytes": 4096}).to_json()), "features": [feature]}
    with pytest.raises(RepositoryUnsupported, match="features that this version does not know") as caught:
        read_config(json.dumps(raw).encode(), "there")
    assert Fault.of(caught.value).model_dump_json()
