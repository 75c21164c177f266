"""What a host is told that cannot learn whether it has reported in a hold already: Redis's words, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import redis

from freezeframe import redis_fault
from freezeframe.barrier import Gate, GateUnreachableError
from freezeframe.contract.order import HoldOrder
from workers.steps.once import ReportedError, check_first

ORDER = cast("HoldOrder", SimpleNamespace(host_id="host-a"))


def gate(answer: bool | Exception) -> Gate:  # noqa: FBT001  what the gate says
    def has_arrived(deadline: float) -> bool:
        assert deadline == 7.5
        if isinstance(answer, Exception):
            raise answer
        return answer

    return cast("Gate", SimpleNamespace(has_arrived=has_arrived))


def test_a_host_that_has_yet_to_report_goes_on() -> None:
    check_first(gate(answer=False), ORDER, 7.5)


def test_one_that_has_reported_is_told_so() -> None:
    with pytest.raises(ReportedError, match="Host host-a has reported in this hold already"):
        check_first(gate(answer=True), ORDER, 7.5)


@pytest.mark.parametrize(
    "fault",
    [redis.ConnectionError("Connection refused"), redis.ResponseError("MISCONF Redis is configured to save")],
)
def test_without_an_answer_redis_s_words_and_advice_are_told(fault: redis.RedisError) -> None:
    with pytest.raises(ReportedError, match="is not known: Redis") as raised:
        check_first(gate(GateUnreachableError("The deadline passed", fault)), ORDER, 7.5)
    assert raised.value.message.endswith(redis_fault.words_of(fault))
    assert raised.value.hint == redis_fault.advice_for(fault)


def test_without_a_fault_of_redis_the_gate_s_own_words_are_told_and_no_advice() -> None:
    with pytest.raises(ReportedError, match=r"is not known: The deadline passed$") as raised:
        check_first(gate(GateUnreachableError("The deadline passed")), ORDER, 7.5)
    assert not raised.value.hint  # it is not known that the order came twice
