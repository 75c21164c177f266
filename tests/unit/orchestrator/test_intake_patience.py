"""A request whose message is acknowledged is taken in as soon as Redis takes writes again (case S3)."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from freezeframe.contract.request import CaptureRequest
from orchestrator import intake
from orchestrator.look import Orchestrator

REQUEST = CaptureRequest(capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA", every_guest=True)
NOT_AFTER_US = 1_900_000_000_000_000
NOBODY = cast("Orchestrator", None)


class Refusing:
    """An intake that Redis refuses a few times."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.taken: list[CaptureRequest] = []

    def __call__(self, orchestrator: Orchestrator, request: CaptureRequest, not_after_us: int | None) -> None:
        assert not_after_us == NOT_AFTER_US
        if self.left:
            self.left -= 1
            raise redis.ResponseError("MISCONF Redis is configured to save RDB snapshots")
        self.taken.append(request)


@pytest.mark.case("S3")
def test_a_request_outlives_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(3)
    monkeypatch.setattr(intake, "take_in", refusing)
    monkeypatch.setattr(intake, "PAUSE_S", 0)
    intake.take_in_patiently(NOBODY, REQUEST, NOT_AFTER_US)
    assert refusing.taken == [REQUEST]


@pytest.mark.case("S3")
def test_a_request_that_its_caller_has_given_up_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing(3)
    monkeypatch.setattr(intake, "take_in", refusing)
    with pytest.raises(redis.ResponseError):
        intake.take_in_patiently(NOBODY, REQUEST, NOT_AFTER_US, patience_s=-1)
    assert refusing.taken == []
