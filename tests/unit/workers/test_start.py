"""A control worker's start: whatever is odd about what an earlier one left, it publishes itself and recovers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from freezeframe.contract import names
from workers import app, instance, inventory, recovery, writers
from workers.host import Host
from workers.journal import ClaimChange
from workers.recovery import Looks
from workers.scratch import watcher
from workers.steps import table

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def begun(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, threading.Event]]:
    """Begin a worker on a queue; the work that it does beside its orders, as each begins."""
    beside = {name: threading.Event() for name in ("inventory", "recovery", "scratch", "writers")}

    def publish(_host: Host, _stop: threading.Event, looks: Looks) -> None:
        assert looks.stuck == ()
        beside["inventory"].set()

    def recover(_host: Host, _stop: threading.Event, looks: Looks) -> None:
        assert looks.stuck == ()
        beside["recovery"].set()

    monkeypatch.setattr(app, "this_host", lambda: host)
    monkeypatch.setattr(inventory, "publish_forever", publish)
    monkeypatch.setattr(recovery, "recover_forever", recover)
    monkeypatch.setattr(watcher, "watch_forever", lambda *_: beside["scratch"].set())
    monkeypatch.setattr(writers, "watch_forever", lambda *_: beside["writers"].set())

    def begin(queue: str) -> dict[str, threading.Event]:
        app._begin(
            SimpleNamespace(app=SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=[queue]))))
        )
        return beside

    return begin


@pytest.mark.case("S5")
def test_odd_documents_keep_neither_inventory_nor_recovery_from_beginning(
    host: Host, begun: Callable[[str], dict[str, threading.Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid="00000000-0000-4000-8000-00000000000a"))

    def fail(*_: object) -> None:
        raise RuntimeError("odd in a new way")

    monkeypatch.setattr(app, "settle_interrupted", fail)
    beside = begun(names.control_queue(app._host_id))
    assert all(event.wait(30.0) for event in beside.values())


def test_the_inventory_does_not_wait_for_what_an_earlier_worker_left(
    host: Host, begun: Callable[[str], dict[str, threading.Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that is done again may take a minute; until then the host would count as down."""
    goes_on = threading.Event()
    monkeypatch.setattr(app, "settle_interrupted", lambda *_: goes_on.wait())
    beside = begun(names.control_queue(app._host_id))
    assert beside["inventory"].wait(30.0)
    assert beside["scratch"].wait(30.0)
    assert beside["writers"].wait(30.0)
    assert not beside["recovery"].is_set()
    goes_on.set()
    assert beside["recovery"].wait(30.0)


@pytest.mark.case("S11")
def test_a_worker_is_known_as_a_new_one_when_it_has_answered_for_the_last_one_s_holds_and_before_its_releases(
    host: Host, begun: Callable[[str], dict[str, threading.Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an order that was begun is sent again before it is failed; or one that was lost waits for a release."""
    known: list[tuple[str, bool]] = []

    def settle(host: Host, codes: tuple[SimpleNamespace, ...]) -> None:
        is_known = bool(instance.current(host.settings.state_dir, instance.CONTROL))
        known.extend((str(code.step), is_known) for code in codes)

    monkeypatch.setattr(app, "settle_interrupted", settle)
    assert begun(names.control_queue(app._host_id))["recovery"].wait(30.0)
    assert known == [("prepare", False), ("hold", False), ("release", True)]
    assert instance.current(host.settings.state_dir, instance.DATA) == ""


@pytest.mark.case("S11")
def test_a_data_worker_is_known_as_a_new_one_too(
    host: Host, begun: Callable[[str], dict[str, threading.Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[object] = []
    monkeypatch.setattr(app, "settle_interrupted", lambda _, codes: settled.extend(codes))
    beside = begun(names.data_queue(app._host_id))
    assert settled == list(table.DATA_STEPS)
    assert instance.current(host.settings.state_dir, instance.DATA) != ""
    assert not any(event.is_set() for event in beside.values())
