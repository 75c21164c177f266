"""A hold that is refused before it begins, or whose worker died, ends the wait of the other hosts at once (S9)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freezeframe.barrier import Gate
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Step
from tests.unit.workers.hold_site import CAPTURE, HOSTS, Site
from workers.journal import CaptureJournal
from workers.steps import hold as step
from workers.steps.frame import run_step
from workers.steps.interruption import settle_interrupted
from workers.steps.table import HOLD

pytestmark = pytest.mark.case("S9")
HERE, ELSEWHERE = HOSTS
LONG_S = 60.0

Trouble = Callable[[Site, pytest.MonkeyPatch], AbstractContextManager[Any]]


def too_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[Any]:
    order, past = site.order, datetime.now(UTC) - timedelta(seconds=1)
    monkeypatch.setattr(site, "order", lambda host_id, **changes: order(host_id, not_after=past, **changes))
    return nullcontext()


def undo_at_work(site: Site, _: pytest.MonkeyPatch) -> AbstractContextManager[Any]:
    return site.hosts[HERE].journal.of(CAPTURE).guest(site.guests[HERE][0].uuid).lock()


def begun_by_a_worker_that_died(site: Site, _: pytest.MonkeyPatch) -> AbstractContextManager[Any]:
    site.hosts[HERE].journal.of(CAPTURE).record_begun(Step.HOLD, "", site.order(HERE).model_dump_json())
    return nullcontext()


def full_disk(_: Site, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[Any]:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CaptureJournal, "record_begun", full)
    return nullcontext()


def defect(_: Site, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[Any]:
    def odd(*_: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(CaptureJournal, "record_begun", odd)
    return nullcontext()


def gates(site: Site) -> list[str]:
    redis = site.hosts[HERE].redis
    return [Gate(redis, CAPTURE, 1, name, ELSEWHERE, len(HOSTS)).look().state for name in ("muster", "held")]


def waits_elsewhere(site: Site) -> tuple[threading.Thread, list[object]]:
    """Have the other host wait at the muster."""
    answers: list[object] = []

    def wait() -> None:
        try:
            answers.append(step.hold(site.hosts[ELSEWHERE], site.order(ELSEWHERE, hold_timeout_s=LONG_S)))
        except step.MusterError as error:
            answers.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread, answers


@pytest.mark.parametrize("trouble", [too_late, undo_at_work, begun_by_a_worker_that_died, full_disk, defect])
def test_the_other_hosts_do_not_wait_for_a_host_whose_order_was_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Trouble
) -> None:
    """They waited for all of the muster's 60 s."""
    thread, answers = waits_elsewhere(site)
    began = time.monotonic()
    with trouble(site, monkeypatch):
        assert run_step(site.hosts[HERE], HOLD, site.order(HERE).model_dump(mode="json"))["ok"] is False
    thread.join(LONG_S / 2)
    assert time.monotonic() - began < LONG_S / 2
    (answer,) = answers
    assert isinstance(answer, step.MusterError)
    assert gates(site) == ["broken", "broken"]
    assert all(fake.log == [] for fake in site.fakes.values())


def test_a_hold_whose_worker_died_ends_the_wait_when_a_worker_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_by_a_worker_that_died(site, monkeypatch)
    settle_interrupted(site.hosts[HERE], [HOLD])
    assert gates(site) == ["broken", "broken"]


def test_a_hold_that_went_well_breaks_nothing_however_often_its_order_comes(site: Site) -> None:
    thread, answers = waits_elsewhere(site)
    payload = site.order(HERE, hold_timeout_s=LONG_S).model_dump(mode="json")
    for _ in range(2):
        assert run_step(site.hosts[HERE], HOLD, payload)["ok"] is True
    thread.join(LONG_S)
    (answer,) = answers
    assert isinstance(answer, HoldResult)
    assert gates(site) == ["released", "released"]


def foreign(order: HoldOrder) -> HoldOrder:
    return order.model_copy(update={"host_id": ELSEWHERE})


def test_an_order_that_concerns_no_wait_for_this_host_breaks_nothing(site: Site) -> None:
    assert run_step(site.hosts[HERE], HOLD, foreign(site.order(HERE)).model_dump(mode="json"))["ok"] is False
    assert gates(site) == ["open", "open"]
