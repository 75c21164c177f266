"""A run's fault says whose trouble it was: Redis's in its own words, and a defect only if it is one."""

from __future__ import annotations

import pytest
import redis
from kombu.exceptions import OperationalError

from orchestrator.defect import fault_of

READ_ONLY = redis.ReadOnlyError("You can't write against a read only replica.")


def published(error: redis.RedisError) -> OperationalError:
    """Return the error as kombu raises it when an order is published."""
    made = OperationalError(str(error))
    made.__cause__ = error
    return made


@pytest.mark.case("S3")
@pytest.mark.parametrize(
    ("error", "word"),
    [
        (READ_ONLY, "name the primary"),
        (published(READ_ONLY), "name the primary"),
        (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "raise its `maxmemory`"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "free space"),
        (redis.ConnectionError("Connection refused."), "freezeframe up"),
    ],
)
def test_trouble_of_redis_is_no_defect(error: Exception, word: str) -> None:
    fault = fault_of(error)
    assert fault.code == "redis"
    assert word in fault.advice


def test_a_defect_is_told_as_one() -> None:
    fault = fault_of(KeyError("x"))
    assert (fault.code, fault.message) == ("unexpected", "KeyError: 'x'")
