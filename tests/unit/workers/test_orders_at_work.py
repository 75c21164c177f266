"""A second delivery of an order that is at work takes no thread for longer than a moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import Order, PrepareOrder, ReleaseOrder
from freezeframe.contract.result import PrepareResult, ReleaseResult
from freezeframe.contract.words import Method, Step
from workers.host import Host
from workers.steps.frame import StepCode, run_step

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


class Slow:
    """A step that begins and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def release(self, host: Host, order: ReleaseOrder) -> ReleaseResult:
        self._do(order)
        return ReleaseResult(capture_id=order.capture_id, host_id=host.host_id)

    def prepare(self, host: Host, order: PrepareOrder) -> PrepareResult:
        self._do(order)
        return PrepareResult(capture_id=order.capture_id, host_id=host.host_id)

    def _do(self, order: Order) -> None:
        self.begun.append(order.part)
        self.has_begun.set()
        self.may_end.wait()


def failed(order: Any, fault: Fault) -> Any:
    raise AssertionError(f"{order} failed: {fault}")


@pytest.fixture
def slow() -> Slow:
    return Slow()


def common() -> dict[str, Any]:
    later = datetime.now(UTC) + timedelta(minutes=10)
    return {"capture_id": CAPTURE, "epoch": 1, "host_id": "host-a", "not_after": later}


def release_order() -> dict[str, Any]:
    return ReleaseOrder(**common()).model_dump(mode="json")


def prepare_order(number: int = 0) -> dict[str, Any]:
    order = PrepareOrder(
        **common(), method=Method.BACKUP_PULL, repository_id="r", chunk_bytes=4096, guests=(), round=number
    )
    return order.model_dump(mode="json")


def codes(slow: Slow) -> dict[Step, tuple[StepCode[Any, Any], dict[str, Any]]]:
    return {
        Step.RELEASE: (StepCode(Step.RELEASE, ReleaseOrder, slow.release, failed), release_order()),
        Step.PREPARE: (StepCode(Step.PREPARE, PrepareOrder, slow.prepare, failed), prepare_order()),
    }


@pytest.mark.parametrize("step", [Step.PREPARE, Step.RELEASE])
def test_a_duplicate_of_an_order_at_work_returns_at_once(host: Host, slow: Slow, step: Step) -> None:
    code, payload = codes(slow)[step]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(run_step, host, code, payload)
        try:
            slow.has_begun.wait()
            assert run_step(host, code, payload)["ok"] is True  # without waiting, else it would wait for ever
            assert not host.redis.exists(names.results_key(CAPTURE))
        finally:
            slow.may_end.set()
        assert first.result()["ok"] is True
    assert slow.begun == [""]
    assert host.redis.hexists(names.results_key(CAPTURE), names.result_field(step, "host-a"))


def test_a_duplicate_that_comes_later_is_answered_from_the_journal(host: Host, slow: Slow) -> None:
    slow.may_end.set()
    code, payload = codes(slow)[Step.PREPARE]
    run_step(host, code, payload)
    host.redis.flushall()
    run_step(host, code, payload)
    assert slow.begun == [""]
    assert host.redis.exists(names.results_key(CAPTURE))


def test_an_order_of_another_round_is_no_duplicate(host: Host, slow: Slow) -> None:
    code, payload = codes(slow)[Step.PREPARE]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(run_step, host, code, payload)
        slow.has_begun.wait()
        second = pool.submit(run_step, host, code, prepare_order(1))
        slow.may_end.set()
        assert [one.result()["ok"] for one in (first, second)] == [True, True]
    assert slow.begun == ["", "round1"]


def test_an_order_that_another_process_has_in_hand_is_waited_for(host: Host, slow: Slow) -> None:
    """It may be a worker that is dying: nobody else would do the order."""
    slow.may_end.set()
    code, payload = codes(slow)[Step.RELEASE]
    with ThreadPoolExecutor() as pool:
        with host.journal.of(CAPTURE).lock(Step.RELEASE, ""):
            second = pool.submit(run_step, host, code, payload)
            assert not slow.begun
        assert second.result()["ok"] is True
    assert slow.begun == [""]


def test_a_step_that_breaks_off_is_at_work_no_more(host: Host, slow: Slow) -> None:
    class Died(BaseException):
        pass

    def die(_host: Host, _order: ReleaseOrder) -> ReleaseResult:
        raise Died

    slow.may_end.set()
    code, payload = codes(slow)[Step.RELEASE]
    with pytest.raises(Died):
        run_step(host, StepCode(Step.RELEASE, ReleaseOrder, die, failed), payload)
    run_step(host, code, payload)
    assert slow.begun == [""]
