"""Orders whose worker died, and results that Redis must keep: each capture's trouble is its own."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import ReleaseOrder, TransferOrder
from freezeframe.contract.result import ReleaseResult, TransferResult
from freezeframe.contract.words import Step
from tests.unit.orders import transfer_order
from workers.host import Host
from workers.journal import CaptureJournal
from workers.steps import publication
from workers.steps.frame import StepCode, run_step
from workers.steps.interruption import settle_interrupted
from workers.steps.publication import publish_again

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OLDER = "01J" + CAPTURE[3:]


def order(capture_id: str = CAPTURE) -> ReleaseOrder:
    later = datetime.now(UTC) + timedelta(minutes=1)
    return ReleaseOrder(capture_id=capture_id, epoch=1, host_id="host-a", not_after=later)


class Releases:
    """A release that notes of which captures it was done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.code = StepCode(Step.RELEASE, ReleaseOrder, self._do, self._failed)

    def _do(self, host: Host, order: ReleaseOrder) -> ReleaseResult:
        self.done.append(order.capture_id)
        return ReleaseResult(capture_id=order.capture_id, host_id=host.host_id)

    def _failed(self, order: ReleaseOrder, fault: Fault) -> ReleaseResult:
        return ReleaseResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)


@pytest.fixture
def releases() -> Releases:
    return Releases()


@pytest.mark.case("S5")
def test_a_capture_whose_orders_cannot_be_listed_keeps_no_other_from_being_answered(
    host: Host, releases: Releases
) -> None:
    """It is older, so it is looked at first."""
    for capture_id in (OLDER, CAPTURE):
        host.journal.of(capture_id).record_begun(Step.RELEASE, "", order(capture_id).model_dump_json())
    begun = host.settings.state_dir / "captures" / OLDER / "begun"
    begun.rename(begun.with_suffix(".aside"))
    begun.write_text("not a folder")
    settle_interrupted(host, [releases.code])
    assert releases.done == [CAPTURE]
    assert begun.read_text() == "not a folder"


def kept_s(host: Host) -> object:
    return host.redis.ttl(names.results_key(CAPTURE))


def test_results_do_not_stay_in_redis_for_ever(host: Host, releases: Releases) -> None:
    run_step(host, releases.code, order().model_dump(mode="json"))
    assert kept_s(host) == publication.RESULTS_KEEP_S
    host.redis.flushall()
    publish_again(host, host.journal.of(CAPTURE))
    assert kept_s(host) == publication.RESULTS_KEEP_S


def test_a_result_is_told_again_until_redis_takes_it_with_a_pause_between(
    host: Host, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []
    tell = host.redis.pipeline

    def away_at_first(*, transaction: bool) -> object:
        if len(paused) < publication.PUBLISH_TRIES - 1:
            raise redis.ConnectionError("away")
        return tell(transaction=transaction)

    monkeypatch.setattr(time, "sleep", paused.append)
    monkeypatch.setattr(host.redis, "pipeline", away_at_first)
    run_step(host, releases.code, order().model_dump(mode="json"))
    assert host.redis.hexists(names.results_key(CAPTURE), names.result_field(Step.RELEASE, "host-a"))
    assert paused == [publication.PUBLISH_PAUSE_S] * (publication.PUBLISH_TRIES - 1)


class Transfers:
    """A transfer that notes that it was done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.code = StepCode(Step.TRANSFER, TransferOrder, self._do, self._failed)
        self.order = transfer_order()

    def _do(self, host: Host, order: TransferOrder) -> TransferResult:
        self.done.append(order.part)
        return self._answer(order, None)

    def _failed(self, order: TransferOrder, fault: Fault) -> TransferResult:
        return self._answer(order, fault)

    def _answer(self, order: TransferOrder, fault: Fault | None) -> TransferResult:
        ids = {"capture_id": order.capture_id, "host_id": order.host_id}
        return TransferResult(**ids, guest_uuid=order.guest_uuid, target=order.target, fault=fault)

    def told(self, host: Host) -> TransferResult:
        field = names.result_field(Step.TRANSFER, "host-a", self.order.part)
        return TransferResult.model_validate_json(str(host.redis.hget(names.results_key(CAPTURE), field)))


@pytest.fixture
def transfers(host: Host) -> Transfers:
    """One that was begun by a worker that died."""
    made = Transfers()
    host.journal.of(CAPTURE).record_begun(Step.TRANSFER, made.order.part, made.order.model_dump_json())
    return made


def test_an_interrupted_transfer_has_failed_and_is_not_done_again(host: Host, transfers: Transfers) -> None:
    """Its backup may have ended with its worker, and its run may have gone on without it."""
    settle_interrupted(host, [transfers.code])
    assert transfers.done == []
    fault = transfers.told(host).fault
    assert fault is not None
    assert fault.code == "interrupted"
    assert run_step(host, transfers.code, transfers.order.model_dump(mode="json"))["ok"] is False
    assert transfers.done == []


def test_an_interrupted_transfer_is_told_and_not_done_again_also_where_its_end_cannot_be_stored(
    host: Host, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CaptureJournal, "store_result", full)
    settle_interrupted(host, [transfers.code])
    fault = transfers.told(host).fault
    assert fault is not None
    assert (fault.code, transfers.done) == ("interrupted", [])


def test_a_result_that_was_stored_since_the_orders_were_listed_stands(
    host: Host, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that was at work until then."""
    journal = host.journal.of(CAPTURE)
    listed = journal.unanswered(Step.TRANSFER)
    monkeypatch.setattr(CaptureJournal, "unanswered", lambda *_: listed)
    journal.store_result(
        Step.TRANSFER, transfers.order.part, transfers._answer(transfers.order, None).model_dump_json()
    )
    settle_interrupted(host, [transfers.code])
    assert transfers.told(host).fault is None
    assert transfers.done == []


@pytest.mark.case("S5")
@pytest.mark.parametrize("text", ["[]", '"hold"', "null", "{", ""])
def test_a_begun_order_that_is_no_order_at_all_is_told_as_not_understood(
    host: Host, releases: Releases, text: str
) -> None:
    host.journal.of(CAPTURE).record_begun(Step.RELEASE, "", text)
    with structlog.testing.capture_logs() as logs:
        settle_interrupted(host, [releases.code])
    assert [line["event"] for line in logs] == ["an order is not understood"]
    assert releases.done == []


@pytest.mark.case("S5")
@pytest.mark.parametrize("text", ["[]", "{", "", '{"v": 2, "target": "vda"}'])
def test_a_begun_transfer_that_does_not_say_of_what_is_told_as_not_understood(
    host: Host, transfers: Transfers, text: str
) -> None:
    host.journal.of(CAPTURE).record_begun(Step.TRANSFER, transfers.order.part, text)
    with structlog.testing.capture_logs() as logs:
        settle_interrupted(host, [transfers.code])
    assert [line["event"] for line in logs] == ["an order is not understood"]
    assert transfers.done == []
