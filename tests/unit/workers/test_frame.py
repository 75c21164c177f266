"""Around every step: an order is answered once, whatever dies in the middle (invariant 6: twice is once)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import HoldOrder, PrepareOrder, ReleaseOrder, TransferOrder
from freezeframe.contract.result import HoldResult, ReleaseResult, TransferResult
from freezeframe.contract.words import Step
from tests.unit.orders import transfer_order
from workers.host import Host
from workers.steps.frame import StepCode, run_step
from workers.steps.interruption import settle_interrupted
from workers.steps.table import PREPARE, TRANSFER

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


class Died(BaseException):
    """Stands for SIGKILL: nothing catches it, and nothing after it runs."""


class Counted:
    """A step that counts how often it was done, and may die in the middle."""

    def __init__(self) -> None:
        self.times = 0
        self.dies = False

    def hold(self, host: Host, order: HoldOrder) -> HoldResult:
        self._do()
        return HoldResult(capture_id=order.capture_id, host_id=host.host_id)

    def release(self, host: Host, order: ReleaseOrder) -> ReleaseResult:
        self._do()
        return ReleaseResult(capture_id=order.capture_id, host_id=host.host_id)

    def _do(self) -> None:
        self.times += 1
        if self.dies:
            raise Died


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def hold_code(counted: Counted) -> StepCode[HoldOrder, HoldResult]:
    def failed(order: HoldOrder, fault: Fault) -> HoldResult:
        return HoldResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)

    return StepCode(Step.HOLD, HoldOrder, counted.hold, failed)


@pytest.fixture
def release_code(counted: Counted) -> StepCode[ReleaseOrder, ReleaseResult]:
    def failed(order: ReleaseOrder, fault: Fault) -> ReleaseResult:
        return ReleaseResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)

    return StepCode(Step.RELEASE, ReleaseOrder, counted.release, failed)


def hold_order(**changes: Any) -> dict[str, Any]:
    order = HoldOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(minutes=1),
        repository_id="r",
        members=1,
        guests=(),
        muster_timeout_s=1,
        hold_timeout_s=1,
        all_or_nothing=True,
    )
    return order.model_copy(update=changes).model_dump(mode="json")


def release_order() -> dict[str, Any]:
    later = datetime.now(UTC) + timedelta(minutes=1)
    return ReleaseOrder(capture_id=CAPTURE, epoch=1, host_id="host-a", not_after=later).model_dump(mode="json")


def published(host: Host, step: Step) -> HoldResult | None:
    text = host.redis.hget(names.results_key(CAPTURE), names.result_field(step, "host-a"))
    return HoldResult.model_validate_json(str(text)) if text else None


def test_an_order_delivered_twice_is_done_once_and_answered_alike(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    assert run_step(host, hold_code, hold_order()) == run_step(host, hold_code, hold_order())
    assert counted.times == 1


def test_a_result_that_redis_has_lost_is_published_again_from_the_journal(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    run_step(host, hold_code, hold_order())
    host.redis.flushall()
    run_step(host, hold_code, hold_order())
    assert counted.times == 1
    assert published(host, Step.HOLD) is not None


def test_an_interrupted_hold_is_answered_when_the_worker_is_back_and_never_done_again(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    counted.dies = True
    with pytest.raises(Died):
        run_step(host, hold_code, hold_order())
    settle_interrupted(host, [hold_code])
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert result.fault.code == "interrupted"
    counted.dies = False
    assert run_step(host, hold_code, hold_order())["ok"] is False
    assert counted.times == 1


def test_a_hold_delivered_again_after_its_worker_died_is_refused_even_before_it_was_settled(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    counted.dies = True
    with pytest.raises(Died):
        run_step(host, hold_code, hold_order())
    counted.dies = False
    assert run_step(host, hold_code, hold_order())["ok"] is False
    assert counted.times == 1


def test_an_interrupted_release_is_done_again(
    host: Host, counted: Counted, release_code: StepCode[ReleaseOrder, ReleaseResult]
) -> None:
    counted.dies = True
    with pytest.raises(Died):
        run_step(host, release_code, release_order())
    counted.dies = False
    settle_interrupted(host, [release_code])
    assert counted.times == 2
    assert host.redis.hexists(names.results_key(CAPTURE), names.result_field(Step.RELEASE, "host-a"))


def test_what_another_process_is_at_work_on_is_not_settled(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    journal = host.journal.of(CAPTURE)
    journal.record_begun(Step.HOLD, "", HoldOrder.model_validate(hold_order()).model_dump_json())
    with journal.lock(Step.HOLD, ""):
        settle_interrupted(host, [hold_code])
    assert published(host, Step.HOLD) is None
    assert counted.times == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"host_id": "host-b"}, "foreign-order"), ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "late-order")],
)
def test_an_order_for_another_or_from_the_past_is_answered_and_not_done(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult], changes: dict[str, Any], code: str
) -> None:
    assert run_step(host, hold_code, hold_order(**changes))["ok"] is False
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert (result.fault.code, counted.times) == (code, 0)


def test_an_order_after_the_capture_was_released_is_refused_and_a_release_is_not(
    host: Host,
    counted: Counted,
    hold_code: StepCode[HoldOrder, HoldResult],
    release_code: StepCode[ReleaseOrder, ReleaseResult],
) -> None:
    """What it changed would be undone by nobody: this host has nothing more to do for the capture."""
    host.journal.of(CAPTURE).end()
    assert run_step(host, hold_code, hold_order())["ok"] is False
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert (result.fault.code, counted.times) == ("late-order", 0)
    assert run_step(host, release_code, release_order())["ok"] is True
    assert counted.times == 1


def test_an_order_that_cannot_be_read_is_an_answer_and_no_crash(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    assert run_step(host, hold_code, {"v": 1, "shell": "rm"})["ok"] is False
    assert counted.times == 0


def test_without_redis_the_result_stays_in_the_journal(
    host: Host, hold_code: StepCode[HoldOrder, HoldResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.steps.publication.PUBLISH_PAUSE_S", 0)

    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(host.redis, "pipeline", away)
    assert run_step(host, hold_code, hold_order())["ok"] is True
    assert host.redis.exists(names.results_key(CAPTURE)) == 0
    assert host.journal.of(CAPTURE).result(Step.HOLD, "") is not None


@pytest.mark.case("S5")
def test_an_order_that_is_not_understood_keeps_no_other_from_being_answered(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    """Its capture is older, so it is looked at first."""
    older = "01J" + CAPTURE[3:]
    host.journal.of(older).record_begun(Step.HOLD, "", '{"v": 2, "capture_id": "…"}')
    host.journal.of(CAPTURE).record_begun(Step.HOLD, "", HoldOrder.model_validate(hold_order()).model_dump_json())
    settle_interrupted(host, [hold_code])
    assert published(host, Step.HOLD) is not None
    assert host.journal.of(older).result(Step.HOLD, "") is None


@pytest.mark.case("S5")
def test_an_order_that_fails_in_a_new_way_keeps_no_other_from_being_answered(
    host: Host, hold_code: StepCode[HoldOrder, HoldResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    older = "01J" + CAPTURE[3:]
    for capture_id in (older, CAPTURE):
        order = HoldOrder.model_validate(hold_order(capture_id=capture_id))
        host.journal.of(capture_id).record_begun(Step.HOLD, "", order.model_dump_json())
    (host.settings.state_dir / "captures" / older / "results").write_text("not a folder")
    settle_interrupted(host, [hold_code])
    assert published(host, Step.HOLD) is not None


@pytest.mark.case("S5")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"v": 1}'])
def test_a_stored_result_that_is_damaged_is_answered_and_not_done_again(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult], text: str
) -> None:
    host.journal.of(CAPTURE).store_result(Step.HOLD, "", text)
    assert run_step(host, hold_code, hold_order())["ok"] is False
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert (result.fault.code, counted.times) == ("unreadable-order", 0)


@pytest.mark.case("S6")
def test_on_a_full_disk_a_hold_is_not_begun_and_the_answer_is_told(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.durable.replace", full)
    assert run_step(host, hold_code, hold_order())["ok"] is False
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert "No space left" in result.fault.message
    assert counted.times == 0


@pytest.mark.case("S11")
def test_a_transfer_that_is_sent_again_while_it_is_at_work_keeps_no_second_process(host: Host) -> None:
    """And one that is done is answered from the journal."""
    order = transfer_order()
    done: list[str] = []

    def failed(order: TransferOrder, fault: Fault) -> TransferResult:
        raise AssertionError(f"{order.part}: {fault.message}")

    def do(_host: Host, order: TransferOrder) -> TransferResult:
        done.append(order.part)
        payload = order.model_dump(mode="json")
        assert run_step(host, code, payload)["ok"] is True  # at once, although the first is at work
        ids = {"capture_id": order.capture_id, "host_id": order.host_id}
        return TransferResult(**ids, guest_uuid=order.guest_uuid, target=order.target)

    code = StepCode(Step.TRANSFER, TransferOrder, do, failed)
    for _ in range(2):
        assert run_step(host, code, order.model_dump(mode="json"))["ok"] is True
    assert done == [order.part]


@pytest.mark.case("S2")
@pytest.mark.parametrize(("ahead_s", "said"), [(300, "This host's clock is 300 s ahead of Redis's."), (1, ""), (0, "")])
def test_a_late_order_is_answered_with_what_the_clock_says(
    host: Host,
    hold_code: StepCode[HoldOrder, HoldResult],
    monkeypatch: pytest.MonkeyPatch,
    ahead_s: int,
    said: str,
) -> None:
    monkeypatch.setattr("workers.steps.order_check.presence.clock_ahead_s", lambda _client: float(ahead_s))
    run_step(host, hold_code, hold_order(not_after=datetime(2020, 1, 1, tzinfo=UTC)))
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert result.fault.message == f"The order was valid until 00:00:00 UTC only. {said}".strip()


@pytest.mark.case("S5")
def test_an_order_of_a_newer_version_is_answered_at_once_and_not_done(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    """Its run need not wait for its deadline to learn why."""
    assert run_step(host, hold_code, {**hold_order(), "colour": "red"})["ok"] is False
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert (result.fault.code, counted.times) == ("unreadable-order", 0)


@pytest.mark.case("S5")
@pytest.mark.parametrize("changes", [{"host_id": "host-b"}, {"capture_id": "../../etc"}, {"v": 2, "capture_id": None}])
def test_an_order_that_does_not_say_whose_it_is_is_answered_to_nobody(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult], changes: dict[str, Any]
) -> None:
    assert run_step(host, hold_code, {**hold_order(), "colour": "red", **changes})["ok"] is False
    assert (host.redis.keys("*results*"), counted.times) == ([], 0)


@pytest.mark.case("S5")
def test_an_order_whose_answer_cannot_be_made_of_what_is_read_is_not_done(host: Host, counted: Counted) -> None:
    def failed(order: HoldOrder, fault: Fault) -> HoldResult:
        assert order.members
        return HoldResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)

    code = StepCode(Step.HOLD, HoldOrder, counted.hold, failed)
    assert run_step(host, code, {**hold_order(), "members": "many"}) == {"v": 1, "ok": False, "unreadable": "hold"}
    assert (host.redis.keys("*results*"), counted.times) == ([], 0)
    assert not host.journal.of(CAPTURE).begun(Step.HOLD, "")


@pytest.mark.case("S5")
def test_an_order_that_is_not_understood_is_told_as_that_also_where_the_journal_fails(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the user can do something about: the disk would not make it readable."""

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("workers.journal.CaptureJournal.result", fails)
    assert run_step(host, hold_code, {**hold_order(), "colour": "red"})["ok"] is False
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert (result.fault.code, counted.times) == ("unreadable-order", 0)


@pytest.mark.case("S5")
def test_what_a_worker_told_of_an_order_that_its_successor_does_not_understand_stands(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    """It could not store it. Another answer would end the backups of a hold that has gone well."""
    host.journal.of(CAPTURE).record_begun(Step.HOLD, "", json.dumps(hold_order()))
    told = HoldResult(capture_id=CAPTURE, host_id="host-a").model_dump_json()
    host.redis.hset(names.results_key(CAPTURE), names.result_field(Step.HOLD, "host-a"), told)
    assert run_step(host, hold_code, {**hold_order(), "colour": "red"})["ok"] is True
    assert host.journal.of(CAPTURE).result(Step.HOLD, "") == told
    result = published(host, Step.HOLD)
    assert result is not None
    assert (result.fault, counted.times) == (None, 0)


def test_an_interrupted_step_without_an_answer_of_its_own_is_no_defect(
    host: Host, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    host.journal.of(CAPTURE).record_begun(Step.HOLD, "", json.dumps(hold_order()))
    with structlog.testing.capture_logs() as lines:
        settle_interrupted(host, [hold_code])
    assert {line["log_level"] for line in lines} == {"warning"}


@pytest.mark.case("S5")
def test_a_begun_order_of_a_newer_version_is_answered_when_the_worker_is_back(
    host: Host, counted: Counted, hold_code: StepCode[HoldOrder, HoldResult]
) -> None:
    host.journal.of(CAPTURE).record_begun(Step.HOLD, "", json.dumps({**hold_order(), "v": 2}))
    settle_interrupted(host, [hold_code])
    result = published(host, Step.HOLD)
    assert result is not None
    assert result.fault is not None
    assert (result.fault.code, counted.times) == ("unreadable-order", 0)


def parts_told(host: Host) -> dict[str, str]:
    found = host.redis.hgetall(names.results_key(CAPTURE))
    assert isinstance(found, dict)
    return {str(field): json.loads(text)["fault"]["code"] for field, text in found.items()}


@pytest.mark.case("S5")
def test_a_release_that_is_not_understood_is_done_when_it_comes_again_and_is_understood(
    host: Host, counted: Counted, release_code: StepCode[ReleaseOrder, ReleaseResult]
) -> None:
    assert run_step(host, release_code, {**release_order(), "v": 2})["ok"] is False
    assert parts_told(host) == {names.result_field(Step.RELEASE, "host-a"): "unreadable-order"}
    assert (host.journal.of(CAPTURE).result(Step.RELEASE, ""), counted.times) == (None, 0)
    assert run_step(host, release_code, release_order())["ok"] is True
    assert counted.times == 1


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colour": "red"}, ["prepare/host-a/round2"]),
        ({"v": 2, "chunk_bytes": "many"}, ["prepare/host-a/round2"]),
        ({"round": "soon"}, []),
        ({"round": "../../etc"}, []),
    ],
)
def test_an_order_that_is_not_understood_is_answered_for_its_own_part_or_not_at_all(
    host: Host, changes: dict[str, Any], told: list[str]
) -> None:
    """A round that cannot be read is not the first."""
    order = {
        **release_order(),
        "method": "backup-pull",
        "repository_id": "r",
        "chunk_bytes": 1,
        "guests": [],
        "round": 2,
    }
    del order["sealed_guests"]
    PrepareOrder.model_validate(order)
    assert run_step(host, PREPARE, {**order, **changes})["ok"] is False
    assert list(parts_told(host)) == told


@pytest.mark.case("S5")
@pytest.mark.parametrize("changes", [{"target": "../vda"}, {"guest_uuid": "../../etc"}, {"target": None}])
def test_a_transfer_whose_disk_cannot_be_read_writes_no_file_of_that_name(host: Host, changes: dict[str, Any]) -> None:
    assert run_step(host, TRANSFER, {**transfer_order().model_dump(mode="json"), **changes})["ok"] is False
    assert parts_told(host) == {}
    assert list((host.settings.state_dir / "captures").iterdir()) == []


@pytest.mark.case("S5")
@pytest.mark.parametrize("field", ["size_bytes", "guest_name", "kind", "epoch", "v"])
def test_a_transfer_that_is_not_understood_is_answered_for_its_disk(host: Host, field: str) -> None:
    """Of its guest the UUID is enough; without an answer the run waited until the host had stalled."""
    order = transfer_order()
    assert run_step(host, TRANSFER, {**order.model_dump(mode="json"), field: ["much"]})["ok"] is False
    assert parts_told(host) == {names.result_field(Step.TRANSFER, "host-a", order.part): "unreadable-order"}
