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


class Clock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds == intake.PAUSE_S
        self.now_s += seconds


@pytest.mark.case("S3")
def test_a_redis_that_refuses_is_asked_now_and_then_until_the_caller_has_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = Refusing(1000)
    monkeypatch.setattr(intake, "take_in", refusing)
    monkeypatch.setattr(intake, "time", Clock())
    with pytest.raises(redis.ResponseError):
        intake.take_in_patiently(NOBODY, REQUEST, NOT_AFTER_US, patience_s=4 * intake.PAUSE_S)
    assert 1000 - refusing.left == 6  # at once, after each of four pauses, and once when the time is up
